"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["examples"]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _theta(x: Tensor) -> Tensor:
    """(N, 2, 3): a map that depends on the input."""
    return x.flatten(1)[:, :6].reshape(-1, 2, 3)


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    x, columns = random(2, 8, 4, 6), random(2, 32, 6)
    calls: dict[str, list[tuple[Any, ...]]] = {
        "interpolate": [
            (nn.Upsample(scale_factor=2), x),
            (lambda one: F.interpolate(one, size=(5, 7), mode="bilinear", align_corners=True), x),
            (lambda one: F.interpolate(one, size=(one.shape[2] * 2, one.shape[3])), x),
        ],
        "pixel_shuffle": [(nn.PixelShuffle(2), x), (lambda one: F.pixel_shuffle(one, 2), x)],
        "pixel_unshuffle": [(nn.PixelUnshuffle(2), x)],
        "grid_sample": [(lambda one: F.grid_sample(one, one[:, :2].permute(0, 2, 3, 1), align_corners=False), x)],
        "affine_grid": [(lambda one: F.affine_grid(_theta(one), one.shape, align_corners=False), x)],
        "unfold": [(nn.Unfold(2), x), (lambda one: F.unfold(one, 3, padding=1), x)],
        "fold": [(nn.Fold((4, 6), 2, stride=2), columns)],
        "channel_shuffle": [(nn.ChannelShuffle(4), x)],
        "pad": [
            (nn.ZeroPad2d((1, 2, 0, 1)), x),
            (nn.ReflectionPad2d(1), x),
            (lambda one: F.pad(one, (1, 1), value=0.5), x),
            (lambda one: F.pad(one, (0, 0, 0, 0, 2, 1)), x),
        ],
    }
    return calls[name]
