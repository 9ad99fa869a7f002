"""The four operations as modules: of two tensors, or of a tensor and a number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ElemAdd", "ElemDiv", "ElemMul", "ElemSub", "Elementwise"]


class Elementwise(nn.Module):
    """An operation on x and y. y is the second tensor of the call, else `other`; `reversed` swaps the two."""

    def __init__(self, other: Any = None, reversed: bool = False) -> None:
        super().__init__()
        self.other = other
        self.reversed = reversed

    def forward(self, x: Tensor, y: Any = None, *, other: Any = None) -> Tensor:
        if y is None:
            y = self.other if other is None else other
        return self.compute(y, x) if self.reversed else self.compute(x, y)

    def compute(self, x: Any, y: Any) -> Tensor:
        """The operation itself; at least one of the two is a tensor."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        parts = [] if self.other is None else [f"other={self.other}"]
        return ", ".join([*parts, *(["reversed=True"] if self.reversed else [])])


class ElemAdd(Elementwise):
    """x + alpha * y"""

    def __init__(self, other: Any = None, reversed: bool = False, alpha: float = 1) -> None:
        super().__init__(other, reversed)
        self.alpha = alpha

    def compute(self, x: Any, y: Any) -> Tensor:
        total: Tensor = x + y if self.alpha == 1 else torch.add(x, y, alpha=self.alpha)
        return total


class ElemSub(Elementwise):
    """x - alpha * y"""

    def __init__(self, other: Any = None, reversed: bool = False, alpha: float = 1) -> None:
        super().__init__(other, reversed)
        self.alpha = alpha

    def compute(self, x: Any, y: Any) -> Tensor:
        if self.alpha != 1:
            return torch.rsub(y, x, alpha=self.alpha) if self.reversed else torch.sub(x, y, alpha=self.alpha)
        difference: Tensor = x - y
        return difference


class ElemMul(Elementwise):
    """x * y"""

    def compute(self, x: Any, y: Any) -> Tensor:
        product: Tensor = x * y
        return product


class ElemDiv(Elementwise):
    """x / y, exact or rounded ("trunc", "floor")"""

    def __init__(self, other: Any = None, reversed: bool = False, rounding_mode: str | None = None) -> None:
        super().__init__(other, reversed)
        self.rounding_mode = rounding_mode

    def compute(self, x: Any, y: Any) -> Tensor:
        quotient: Tensor = x / y if self.rounding_mode is None else torch.div(x, y, rounding_mode=self.rounding_mode)
        return quotient
