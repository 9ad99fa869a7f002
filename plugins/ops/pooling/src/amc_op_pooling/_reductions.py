"""Reductions, running totals and orderings along axes, as modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Reduction", "TensorCumulate", "TensorExtreme", "TensorMean", "TensorOrder", "TensorPlace", "TensorTopK"]


class TensorMean(nn.Module):
    """The mean along the axes `dim`; of all entries when `dim` is None."""

    def __init__(self, dim: list[int] | int | None = None, keepdim: bool = False) -> None:
        super().__init__()
        self.dim = [dim] if isinstance(dim, int) else dim
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)

    def compute(self, x: Tensor) -> Tensor:
        if self.dim is None and not self.keepdim:
            return torch.mean(x)
        return torch.mean(x, dim=self.dim, keepdim=self.keepdim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, keepdim={self.keepdim}"


class Reduction(TensorMean):
    """A sum, largest entry, deviation, ... along the axes `dim`; of all entries when `dim` is None.

    Args:
        fn: `sum`, `amax`, `amin`, `prod`, `std`, `var`, `norm`, `logsumexp`, `any` or `all`.
        correction: what `std` and `var` subtract from the number of entries.
        ord: the exponent of `norm`.
    """

    def __init__(
        self,
        fn: str,
        dim: list[int] | int | None = None,
        keepdim: bool = False,
        correction: float | None = None,
        ord: float | None = None,
    ) -> None:
        super().__init__(dim, keepdim)
        self.fn = fn
        self.correction = correction
        self.ord = ord

    def compute(self, x: Tensor) -> Tensor:
        result: Tensor
        if self.fn == "norm":
            result = torch.linalg.vector_norm(x, self.ord, self.dim, self.keepdim)
        elif self.correction is not None:
            result = getattr(torch, self.fn)(x, dim=self.dim, correction=self.correction, keepdim=self.keepdim)
        elif self.dim is None:
            result = getattr(torch, self.fn)(x)
        elif self.fn == "prod":  # takes one axis only
            result = torch.prod(x, self.dim[0], self.keepdim)
        else:
            result = getattr(torch, self.fn)(x, dim=self.dim, keepdim=self.keepdim)
        return result

    def extra_repr(self) -> str:
        return f"{self.fn}, {super().extra_repr()}"


class TensorExtreme(nn.Module):
    """`max` or `min`: along `dim` entries and their places, without `dim` the one of all, of two tensors entry by entry."""

    def __init__(self, fn: str, dim: int | None = None, keepdim: bool = False) -> None:
        super().__init__()
        self.fn = fn
        self.dim = dim
        self.keepdim = keepdim

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        compute = getattr(torch, self.fn)
        if other is not None:
            return compute(x, other)
        if self.dim is None:
            return compute(x)
        found = compute(x, self.dim, self.keepdim)
        return found[0], found[1]

    def extra_repr(self) -> str:
        return f"{self.fn}, dim={self.dim}, keepdim={self.keepdim}"


class TensorPlace(nn.Module):
    """`argmax` or `argmin` along `dim`, of all entries when it is None."""

    def __init__(self, fn: str, dim: int | None = None, keepdim: bool = False) -> None:
        super().__init__()
        self.fn = fn
        self.dim = dim
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        places: Tensor = getattr(torch, self.fn)(x, self.dim, self.keepdim)
        return places

    def extra_repr(self) -> str:
        return f"{self.fn}, dim={self.dim}, keepdim={self.keepdim}"


class TensorCumulate(nn.Module):
    """`cumsum` or `cumprod` along `dim`, in the type `dtype`, which follows the module (`.double()`) where it is floating."""

    kind: Tensor | None

    def __init__(self, fn: str, dim: int, dtype: str | None = None) -> None:
        super().__init__()
        self.fn = fn
        self.dim = dim
        wanted: torch.dtype | None = None if dtype is None else getattr(torch, dtype)
        self.register_buffer("kind", None if wanted is None else torch.zeros((), dtype=wanted), persistent=False)

    @property
    def dtype(self) -> str | None:
        return None if self.kind is None else str(self.kind.dtype).removeprefix("torch.")

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = getattr(torch, self.fn)(x, self.dim, dtype=None if self.kind is None else self.kind.dtype)
        return total

    def extra_repr(self) -> str:
        return f"{self.fn}, dim={self.dim}"


class TensorOrder(nn.Module):
    """`sort` (entries and places) or `argsort` (places) along `dim`."""

    def __init__(self, fn: str, dim: int = -1, descending: bool = False, stable: bool = False) -> None:
        super().__init__()
        self.fn = fn
        self.dim = dim
        self.descending = descending
        self.stable = stable

    def forward(self, x: Tensor) -> Any:
        if self.fn == "argsort":
            return torch.argsort(x, stable=self.stable, dim=self.dim, descending=self.descending)
        found: Any = torch.sort(x, stable=self.stable, dim=self.dim, descending=self.descending)
        return found[0], found[1]

    def extra_repr(self) -> str:
        return f"{self.fn}, dim={self.dim}, descending={self.descending}"


class TensorTopK(nn.Module):
    """The `k` largest (or smallest) entries along `dim`, and their places."""

    def __init__(self, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> None:
        super().__init__()
        self.k = k
        self.dim = dim
        self.largest = largest
        self.sorted = sorted

    def forward(self, x: Tensor, *, k: Any = None) -> Any:
        found = torch.topk(x, self.k if k is None else k, self.dim, self.largest, self.sorted)
        return found[0], found[1]

    def extra_repr(self) -> str:
        return f"k={self.k}, dim={self.dim}"
