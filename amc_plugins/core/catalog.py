"""Which distribution provides which built-in plugin: what to install when one is missing.

A test holds it against the entry points and declarations of the distributions in this repository.
"""

from __future__ import annotations

__all__ = ["BUILT_IN", "OPS", "distribution_of", "distribution_of_op"]

BUILT_IN: dict[str, dict[str, str]] = {
    "layer_handlers": {},
    "compressors": {"lowrank": "amc-lowrank", "pruning": "amc-pruning"},
    "tuners": {"random": "amc-baselines"},
    "trainers": {"supervised": "amc-training"},
    "exporters": {"json": "amc-archive-export", "pkl": "amc-archive-export", "vnmodel": "amc-venus-export"},
    "observers": {},
}
"""Kind -> name -> distribution."""

OPS: dict[str, str] = {}
"""Op id -> name of the layer handler."""


def distribution_of(kind: str, name: str) -> str | None:
    """The distribution of a built-in plugin, None when it is not a built-in one."""
    return BUILT_IN.get(kind, {}).get(name)


def distribution_of_op(op: str) -> str | None:
    """The distribution that handles a built-in op, None when it is not a built-in one."""
    name = OPS.get(op)
    return None if name is None else distribution_of("layer_handlers", name)
