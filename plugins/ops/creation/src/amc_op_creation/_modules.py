"""Tensors made while a network runs, as modules. The keywords of a call replace the attributes: sizes computed at run time.

Each module holds an empty buffer of the type that it makes, so that it follows `network.double()` and `network.to(device)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Arange", "Eye", "Full", "FullLike", "Linspace", "Meshgrid", "Numbers", "OneHot", "Triangle"]


class _Made(nn.Module):
    kind: Tensor

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("kind", torch.zeros((), dtype=dtype), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        return self.kind.dtype


class Full(_Made):
    """`torch.full(size, value)`."""

    def __init__(self, size: Sequence[Any], value: float, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.size = list(size)
        self.value = value

    def forward(self, *, size: Any = None) -> Tensor:
        return self.kind.new_full(self.size if size is None else size, self.value)

    def extra_repr(self) -> str:
        return f"size={self.size}, value={self.value}, dtype={self.dtype}"


class FullLike(nn.Module):
    """A tensor of `value` of the type of x, or of `dtype`, and of its size, or of `size`."""

    kind: Tensor | None

    def __init__(self, value: float, size: Sequence[Any] | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.value = value
        self.size = None if size is None else list(size)
        floating = dtype is not None and dtype.is_floating_point
        self.register_buffer("kind", torch.zeros((), dtype=dtype) if floating else None, persistent=False)
        self._dtype = None if floating else dtype

    @property
    def dtype(self) -> torch.dtype | None:
        return self._dtype if self.kind is None else self.kind.dtype

    def forward(self, x: Tensor, *, size: Any = None) -> Tensor:
        wanted = self.size if size is None else size
        if wanted is None:
            return torch.full_like(x, self.value, dtype=self.dtype)
        return x.new_full(wanted, self.value, dtype=self.dtype)

    def extra_repr(self) -> str:
        return f"value={self.value}" + ("" if self.size is None else f", size={self.size}")


class Arange(_Made):
    """`torch.arange(start, end, step)`."""

    def __init__(self, start: Any, end: Any, step: Any, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.start, self.end, self.step = start, end, step

    def forward(self, *, start: Any = None, end: Any = None, step: Any = None) -> Tensor:
        own = zip((start, end, step), (self.start, self.end, self.step), strict=True)
        first, last, stride = (mine if given is None else given for given, mine in own)
        return torch.arange(first, last, stride, dtype=self.kind.dtype, device=self.kind.device)

    def extra_repr(self) -> str:
        return f"start={self.start}, end={self.end}, step={self.step}, dtype={self.dtype}"


class Linspace(_Made):
    """`torch.linspace(start, end, steps)`."""

    def __init__(self, start: Any, end: Any, steps: Any, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.start, self.end, self.steps = start, end, steps

    def forward(self, *, start: Any = None, end: Any = None, steps: Any = None) -> Tensor:
        own = zip((start, end, steps), (self.start, self.end, self.steps), strict=True)
        first, last, count = (mine if given is None else given for given, mine in own)
        return torch.linspace(first, last, count, dtype=self.kind.dtype, device=self.kind.device)

    def extra_repr(self) -> str:
        return f"start={self.start}, end={self.end}, steps={self.steps}, dtype={self.dtype}"


class Eye(_Made):
    """`torch.eye(n, m)`."""

    def __init__(self, n: Any, m: Any, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.n, self.m = n, m

    def forward(self, *, n: Any = None, m: Any = None) -> Tensor:
        rows, columns = (self.n if n is None else n), (self.m if m is None else m)
        return torch.eye(rows, columns, dtype=self.kind.dtype, device=self.kind.device)

    def extra_repr(self) -> str:
        return f"n={self.n}, m={self.m}, dtype={self.dtype}"


class Numbers(_Made):
    """`torch.tensor(data)` of (nested lists of) numbers."""

    def __init__(self, data: Any, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.data = data

    def forward(self, *, data: Any = None) -> Tensor:
        return torch.tensor(self.data if data is None else data, dtype=self.kind.dtype, device=self.kind.device)

    def extra_repr(self) -> str:
        return f"data={self.data}, dtype={self.dtype}"


class Meshgrid(nn.Module):
    """`torch.meshgrid` of tensors of one axis; `indexing` is "ij" or "xy"."""

    def __init__(self, indexing: str = "ij") -> None:
        super().__init__()
        self.indexing = indexing

    def forward(self, *tensors: Tensor) -> Any:
        grids = torch.meshgrid(*tensors, indexing=self.indexing)
        return grids[0] if len(tensors) == 1 else grids

    def extra_repr(self) -> str:
        return f"indexing={self.indexing!r}"


class Triangle(nn.Module):
    """`torch.tril` or `torch.triu`: zeros above, or below, a diagonal of the last two axes."""

    def __init__(self, fn: str, diagonal: int = 0) -> None:
        super().__init__()
        self.fn = fn
        self.diagonal = diagonal

    def forward(self, x: Tensor) -> Tensor:
        triangle: Tensor = getattr(torch, self.fn)(x, self.diagonal)
        return triangle

    def extra_repr(self) -> str:
        return f"{self.fn}, diagonal={self.diagonal}"


class OneHot(nn.Module):
    """`F.one_hot(x, num_classes)`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(x, self.num_classes)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}"
