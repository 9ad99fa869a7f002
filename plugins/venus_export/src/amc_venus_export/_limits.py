"""What a reader is willing to look at. Every bound is checked before anything of that size is built."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of a reader; a file beyond them is refused with the code named here."""

    graph_bytes: int = 16 * 2**20
    """GRAPH_TOO_BIG"""
    json_depth: int = 16
    """JSON_DEPTH"""
    json_items: int = 4_000_000
    """JSON_TOO_MANY: commas and opening brackets"""
    nodes: int = 100_000
    """TOO_MANY_NODES"""
    tensors: int = 100_000
    """TOO_MANY_TENSORS"""
    metadata_bytes: int = 2**20
    """METADATA_TOO_BIG"""
    activations: int = 4 * 2**30
    """ACTIVATIONS_TOO_BIG: bytes of the values alive at one time for one sample, derived from the ops"""


DEFAULT_LIMITS = Limits()
