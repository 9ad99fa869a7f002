"""Element-wise operations as modules: of two tensors, of a tensor and a number, of one tensor, and choices between tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "AddProduct",
    "Cast",
    "Clamp",
    "Compare",
    "ElemAdd",
    "ElemDiv",
    "ElemFloorDiv",
    "ElemMaximum",
    "ElemMinimum",
    "ElemMul",
    "ElemPow",
    "ElemRemainder",
    "ElemSub",
    "Elementwise",
    "MaskedFill",
    "Unary",
    "Where",
]


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


class ElemPow(Elementwise):
    """x ** y"""

    def compute(self, x: Any, y: Any) -> Tensor:
        power: Tensor = torch.pow(x, y)
        return power


class ElemFloorDiv(Elementwise):
    """x // y"""

    def compute(self, x: Any, y: Any) -> Tensor:
        quotient: Tensor = x // y
        return quotient


class ElemRemainder(Elementwise):
    """x % y, with the sign of y"""

    def compute(self, x: Any, y: Any) -> Tensor:
        return torch.remainder(x, y)


class ElemMaximum(Elementwise):
    """The larger entry of x and y."""

    def compute(self, x: Any, y: Any) -> Tensor:
        return torch.maximum(x, y)


class ElemMinimum(Elementwise):
    """The smaller entry of x and y."""

    def compute(self, x: Any, y: Any) -> Tensor:
        return torch.minimum(x, y)


class Compare(Elementwise):
    """A comparison (`eq`, `ne`, `lt`, `le`, `gt`, `ge`) or a logical operation (`logical_and`, ...) of x and y."""

    def __init__(self, fn: str, other: Any = None, reversed: bool = False) -> None:
        super().__init__(other, reversed)
        self.fn = fn

    def compute(self, x: Any, y: Any) -> Tensor:
        answer: Tensor = getattr(torch, self.fn)(x, y)
        return answer

    def extra_repr(self) -> str:
        return ", ".join(part for part in (self.fn, super().extra_repr()) if part)


class Unary(nn.Module):
    """A function of `torch` of each entry: `exp`, `sqrt`, `abs`, ..."""

    def __init__(self, fn: str) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = getattr(torch, self.fn)(x)
        return result

    def extra_repr(self) -> str:
        return self.fn


class _Choice(nn.Module):
    """An operation whose operands are tensors of the call (`roles` names them in order) or numbers (attributes)."""

    def __init__(self, roles: Sequence[str], **numbers: Any) -> None:
        super().__init__()
        self.roles = list(roles)
        self.numbers = numbers

    def operands(self, tensors: Sequence[Tensor]) -> dict[str, Any]:
        return {**self.numbers, **dict(zip(self.roles, tensors, strict=False))}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.numbers.items() if name not in self.roles)


class Where(_Choice):
    """`torch.where(condition, input, other)`."""

    def __init__(self, roles: Sequence[str], input: Any = None, other: Any = None) -> None:
        super().__init__(roles, input=input, other=other)

    def forward(self, *tensors: Tensor) -> Tensor:
        given = self.operands(tensors)
        return torch.where(given["condition"], given["input"], given["other"])


class MaskedFill(_Choice):
    """`value` where `mask` is true, else `input`."""

    def __init__(self, roles: Sequence[str], value: Any = None) -> None:
        super().__init__(roles, value=value)

    def forward(self, *tensors: Tensor) -> Tensor:
        given = self.operands(tensors)
        filled: Tensor = given["input"].masked_fill(given["mask"], given["value"])
        return filled


class Clamp(_Choice):
    """`input` cut to [min, max]; a bound that is None does not hold."""

    def __init__(self, roles: Sequence[str], min: Any = None, max: Any = None) -> None:
        super().__init__(roles, min=min, max=max)

    def forward(self, *tensors: Tensor, min: Any = None, max: Any = None) -> Tensor:
        given = self.operands(tensors)
        low, high = (given["min"] if min is None else min), (given["max"] if max is None else max)
        return torch.clamp(given["input"], low, high)


class AddProduct(_Choice):
    """input + value * tensor1 * tensor2"""

    def __init__(self, roles: Sequence[str], value: Any = 1) -> None:
        super().__init__(roles, value=value)

    def forward(self, *tensors: Tensor) -> Tensor:
        given = self.operands(tensors)
        return torch.addcmul(given["input"], given["tensor1"], given["tensor2"], value=given["value"])


class Cast(nn.Module):
    """x in another type; without `dtype` in that of a second tensor, or as it is when there is none.

    A floating type follows the module (`.double()`, `.half()`), as the types of its neighbours' weights do.
    """

    kind: Tensor | None

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        floating = dtype is not None and dtype.is_floating_point
        self.register_buffer("kind", torch.zeros((), dtype=dtype) if floating else None, persistent=False)
        self._dtype = None if floating else dtype

    @property
    def dtype(self) -> torch.dtype | None:
        return self._dtype if self.kind is None else self.kind.dtype

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        if like is not None:
            return x.type_as(like)
        return x if self.dtype is None else x.to(self.dtype)

    def extra_repr(self) -> str:
        return f"dtype={self.dtype}"
