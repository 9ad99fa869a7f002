"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["examples"]


class _Called(nn.Module):
    """A convolution by the function."""

    def __init__(self, function: Any, weight: Tensor) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(weight)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, self.weight, padding=1)


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    rank = int(name[-2])
    sizes = (7, 6, 5)[:rank]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, *sizes, generator=generator)
    transposed = "transpose" in name
    kind: Any = getattr(nn, f"ConvTranspose{rank}d" if transposed else f"Conv{rank}d")
    extra = {"output_padding": 1} if transposed else {"dilation": 2, "padding_mode": "zeros"}
    weight = torch.randn(6, 4, *[3] * rank, generator=generator)
    return [
        (kind(6, 8, 3, padding=1), x),
        (kind(6, 4, 3, stride=2, padding=2, bias=False, **extra), x),
        (kind(6, 6, 3, padding=1, groups=6), x),
        (kind(6, 8, 1, groups=2), x),
        (_Called(getattr(F, name), weight if transposed else weight.transpose(0, 1).contiguous()), x),
    ]
