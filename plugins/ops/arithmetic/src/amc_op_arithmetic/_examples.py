"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["examples"]


class _Scaled(nn.Module):
    """`x op weight`, with one number per channel."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.linspace(0.5, 2.0, 6).reshape(6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = getattr(torch, self.name)(x, self.weight)
        return out


def image(seed: int = 0) -> Tensor:
    """(2, 6, 4, 5), from 0.1 to 1.1."""
    return torch.rand(2, 6, 4, 5, generator=torch.Generator().manual_seed(seed)) + 0.1


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    x, y = image(), image(1)
    special: dict[str, list[tuple[Any, ...]]] = {
        "where": [(lambda a, b: torch.where(a > 0.5, a, b), x, y), (lambda a: torch.where(a > 0.5, a, 0.0), x)],
        "masked_fill": [(lambda a: a.masked_fill(a > 0.5, 2.0), x)],
        "clamp": [(lambda a: a.clamp(0.2, 0.9), x), (lambda a: torch.clamp(a, min=0.3), x)],
        "addcmul": [(lambda a, b: torch.addcmul(a, b, b, value=0.5), x, y)],
        "cast": [(lambda a: a.double(), x), (lambda a: a.to(torch.int64), 5 * x)],
        "pow": [(lambda a: a**2, x), (torch.pow, x, y), (lambda a: 2.0**a, x)],
        "add": [(torch.add, x, y), (lambda a: 1.0 + a, x), (_Scaled("add"), x), (lambda a, b: a.add(b, alpha=0.5), x, y)],
        "sub": [(torch.sub, x, y), (lambda a: 1.0 - a, x), (_Scaled("sub"), x)],
        "logical_not": [(lambda a: torch.logical_not(a > 0.5), x)],
    }
    if name in special:
        return special[name]
    if name in ("logical_and", "logical_or", "logical_xor"):
        return [(lambda a, b: getattr(torch, name)(a > 0.5, b > 0.5), x, y)]
    function = getattr(torch, name)
    if name in ("eq", "ne", "lt", "le", "gt", "ge"):
        return [(function, x, y), (lambda a: function(a, 0.5), x)]
    if name in ("mul", "div", "maximum", "minimum"):
        return [(function, x, y), (_Scaled(name), x)]
    if name in ("floor_divide", "remainder"):
        return [(function, x, y), (lambda a: function(a, 0.3), x)]
    return [(function, x)]
