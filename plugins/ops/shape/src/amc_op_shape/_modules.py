"""Changes of shape as modules. The keywords of a call replace the attributes: sizes that are computed when the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

__all__ = [
    "Concatenate",
    "Stack",
    "TensorChunk",
    "TensorExpand",
    "TensorFlatten",
    "TensorReshape",
    "TensorSlice",
    "TensorSplit",
    "TensorSqueeze",
    "TensorSwapAxes",
    "TensorTranspose",
    "TensorUnflatten",
    "TensorUnsqueeze",
]


class _ShapeOp(nn.Module):
    shown: ClassVar[tuple[str, ...]] = ()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)


class Concatenate(_ShapeOp):
    """`torch.cat` of the tensors of the call along `dim`."""

    shown = ("dim",)

    def __init__(self, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.dim)


class Stack(_ShapeOp):
    """`torch.stack` of the tensors of the call along the new axis `dim`."""

    shown = ("dim",)

    def __init__(self, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.stack(inputs, self.dim)


class TensorReshape(_ShapeOp):
    """`x.reshape(shape)`; with `shape` None, to the shape of the second tensor."""

    shown = ("shape",)

    def __init__(self, shape: Sequence[Any] | None = None) -> None:
        super().__init__()
        self.shape = None if shape is None else list(shape)

    def forward(self, x: Tensor, like: Tensor | None = None, *, shape: Any = None) -> Tensor:
        if like is not None:
            return x.reshape(like.shape)
        wanted: Any = self.shape if shape is None else shape
        return x.reshape(wanted)


class TensorFlatten(nn.Flatten):
    """`torch.nn.Flatten`: the axes `start_dim` to `end_dim` become one."""


class TensorUnflatten(_ShapeOp):
    """The axis `dim` becomes axes of `sizes`."""

    shown = ("dim", "sizes")

    def __init__(self, dim: int, sizes: Sequence[Any]) -> None:
        super().__init__()
        self.dim = dim
        self.sizes = list(sizes)

    def forward(self, x: Tensor, *, sizes: Any = None) -> Tensor:
        unflattened: Tensor = x.unflatten(self.dim, self.sizes if sizes is None else sizes)
        return unflattened


class TensorTranspose(_ShapeOp):
    """`x.permute(dims)`: axis i of the result is axis `dims[i]` of x."""

    shown = ("dims",)

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = list(dims)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


class TensorSwapAxes(_ShapeOp):
    """`x.transpose(dim0, dim1)`."""

    shown = ("dim0", "dim1")

    def __init__(self, dim0: int, dim1: int) -> None:
        super().__init__()
        self.dim0 = dim0
        self.dim1 = dim1

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(self.dim0, self.dim1)


class TensorSqueeze(_ShapeOp):
    """`x.squeeze(dim)`: those of the axes `dim` that have size 1 go; of all axes when `dim` is None."""

    shown = ("dim",)

    def __init__(self, dim: int | Sequence[int] | None = None) -> None:
        super().__init__()
        self.dim = dim if dim is None else [dim] if isinstance(dim, int) else list(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze() if self.dim is None else x.squeeze(self.dim)


class TensorUnsqueeze(_ShapeOp):
    """`x.unsqueeze(dim)`."""

    shown = ("dim",)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(self.dim)


class TensorExpand(_ShapeOp):
    """`x.expand(shape)`; with `shape` None, to the shape of the second tensor."""

    shown = ("shape",)

    def __init__(self, shape: Sequence[Any] | None = None) -> None:
        super().__init__()
        self.shape = None if shape is None else list(shape)

    def forward(self, x: Tensor, like: Tensor | None = None, *, shape: Any = None) -> Tensor:
        if like is not None:
            return x.expand(like.shape)
        wanted: Any = self.shape if shape is None else shape
        return x.expand(wanted)


class TensorChunk(_ShapeOp):
    """`x.chunk(chunks, dim)`, or pieces of `sizes` where those are given. `chunks` 1: that piece alone."""

    shown = ("chunks", "dim", "sizes")

    def __init__(self, chunks: int, dim: int = 0, sizes: Sequence[int] | None = None) -> None:
        super().__init__()
        self.chunks = chunks
        self.dim = dim
        self.sizes = None if sizes is None else list(sizes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        pieces = x.chunk(self.chunks, self.dim) if self.sizes is None else x.split(self.sizes, self.dim)
        return pieces[0] if self.chunks == 1 else pieces


class TensorSplit(_ShapeOp):
    """`x.split(sizes, dim)`: an int for equal pieces, or a list of sizes. A list of one size: that piece alone."""

    shown = ("sizes", "dim")

    def __init__(self, sizes: int | Sequence[Any], dim: int = 0) -> None:
        super().__init__()
        self.sizes: Any = list(sizes) if isinstance(sizes, list | tuple) else sizes
        self.dim = dim

    def forward(self, x: Tensor, *, sizes: Any = None) -> Tensor | tuple[Tensor, ...]:
        pieces: tuple[Tensor, ...] = x.split(self.sizes if sizes is None else sizes, self.dim)
        return pieces[0] if isinstance(self.sizes, list) and len(self.sizes) == 1 else pieces


class TensorSlice(_ShapeOp):
    """`x[...]` with ints, slices, Ellipsis and None.

    Args:
        index: one text per item: `#` for an int, `#:#:#` for a slice (parts may be missing: `:`, `#:`, `::#`), `...`, `None`.
        values: the ints in the places of `#`, in order.
    """

    shown = ("index", "values")

    def __init__(self, index: Sequence[str], values: Sequence[Any] = ()) -> None:
        super().__init__()
        self.index = list(index)
        self.values = list(values)

    def forward(self, x: Tensor, *, values: Any = None) -> Tensor:
        return x[built_index(self.index, self.values if values is None else values)]


def built_index(index: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    """The Python index that `index` and `values` of a `TensorSlice` describe."""
    items: list[Any] = []
    place = 0
    for item in index:
        parts = []
        for part in item.split(":"):
            parts.append(values[place] if part == "#" else None)
            place += part == "#"
        if item == "...":
            items.append(Ellipsis)
        elif item == "None":
            items.append(None)
        else:
            items.append(parts[0] if item == "#" else slice(*parts))
    return tuple(items)
