"""Which output positions of a layer are drawn as samples: as many as its fit needs, the same whatever else is collected."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.handlers import LinearMap, Shape

__all__ = ["position_generator", "sampled_positions"]

_WANTED, _WANTED_WIDE = 30, 15
"""Samples per unknown that are drawn; of wide patches fewer, since the work grows with the cube of their length."""
_WIDE_PATCH = 2048
_SMALL_MAP = 64
_FEWEST_PIXELS = 10
_FEWEST_ROWS = 20_000


def position_generator(layer: str, seed: int) -> torch.Generator:
    """The generator of a layer's positions: on the CPU, so that every device draws the same ones."""
    return torch.Generator().manual_seed((seed * 0x9E3779B1 + zlib.crc32(layer.encode())) % 2**63)


def sampled_positions(
    linear: LinearMap, output: Shape, pixels: int, per_sample: int | None, samples: int, generator: torch.Generator
) -> Tensor:
    """Output positions of one chunk, as `collect_moments` draws them.

    Args:
        output: shape of the chunk's responses.
        pixels: positions of one sample of it.
        samples: the number of samples of the whole set.
    """
    if per_sample is None:
        unknowns = linear.weight.shape[1]
        fewest = min(_FEWEST_PIXELS, math.ceil(_FEWEST_ROWS / samples))
        wanted = _WANTED if unknowns <= _WIDE_PATCH else _WANTED_WIDE
        per_sample = max(fewest, math.ceil(wanted * unknowns / samples))
    elif pixels <= _SMALL_MAP:
        per_sample = pixels
    return linear.positions(output, None if per_sample >= pixels else per_sample, generator)
