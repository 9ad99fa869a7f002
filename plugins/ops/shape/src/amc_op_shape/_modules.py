"""Changes of shape as modules. The keywords of a call replace the attributes: sizes that are computed when the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.fx
from torch import Tensor, nn

__all__ = [
    "Concatenate",
    "Stack",
    "TensorChunk",
    "TensorExpand",
    "TensorFlatten",
    "TensorFlip",
    "TensorGather",
    "TensorRepeat",
    "TensorRepeatInterleave",
    "TensorReshape",
    "TensorRoll",
    "TensorSetItem",
    "TensorSlice",
    "TensorSplit",
    "TensorSqueeze",
    "TensorSwapAxes",
    "TensorTranspose",
    "TensorUnbind",
    "TensorUnflatten",
    "TensorUnsqueeze",
    "TensorWindows",
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


class TensorUnbind(_ShapeOp):
    """`x.unbind(dim)`: the `count` slices of an axis; a single slice by itself. Another size of the axis is an error."""

    shown = ("dim", "count")

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.dim = dim
        self.count = count

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        pieces = x.split([1] * self.count, self.dim)
        slices = tuple(pieces[index].squeeze(self.dim) for index in range(self.count))
        return slices[0] if self.count == 1 else slices


class TensorSlice(_ShapeOp):
    """`x[...]` with ints, slices, Ellipsis, None, and lists or constant tensors of positions.

    Args:
        index: one text per item: `#` for an int, `#:#:#` for a slice (parts may be missing: `:`, `#:`, `::#`), `...`, `None`,
            `[3]` for a list of three positions, `@` for a tensor of positions, `$` for the next further tensor of the call.
        values: the ints in the places of `#` and of lists, in order.
        positions: the int64 tensors in the places of `@`, in order.
    """

    shown: ClassVar[tuple[str, ...]] = ("index", "values")

    def __init__(self, index: Sequence[str], values: Sequence[Any] = (), positions: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.index = list(index)
        self.values = list(values)
        for place, tensor in enumerate(positions):
            self.register_buffer(f"positions_{place}", tensor)

    @property
    def positions(self) -> list[Tensor]:
        return list(self.buffers())

    def forward(self, x: Tensor, *computed: Tensor, values: Any = None) -> Tensor:
        return x[built_index(self.index, self.values if values is None else values, self.positions, computed)]


class TensorSetItem(TensorSlice):
    """A copy of x with `x[...] = value`; the value is the second tensor of the call, or the number `number`."""

    shown = ("index", "values", "number")

    def __init__(
        self, index: Sequence[str], values: Sequence[Any] = (), positions: Sequence[Tensor] = (), number: float | None = None
    ) -> None:
        super().__init__(index, values, positions)
        self.number = number

    def forward(self, x: Tensor, value: Tensor | None = None, *, values: Any = None) -> Tensor:  # type: ignore[override]
        index = built_index(self.index, self.values if values is None else values, self.positions)
        return written(x, index, self.number if value is None else value)


class TensorRepeat(_ShapeOp):
    """`x.repeat(repeats)`: the whole tensor, so many times along each axis; leading axes may be new."""

    shown = ("repeats",)

    def __init__(self, repeats: Sequence[Any]) -> None:
        super().__init__()
        self.repeats = list(repeats)

    def forward(self, x: Tensor, *, repeats: Any = None) -> Tensor:
        return x.repeat(self.repeats if repeats is None else repeats)


class TensorRepeatInterleave(_ShapeOp):
    """`x.repeat_interleave(repeats, dim)`: each position of an axis, so many times in a row."""

    shown = ("repeats", "dim")

    def __init__(self, repeats: Any, dim: int) -> None:
        super().__init__()
        self.repeats = repeats
        self.dim = dim

    def forward(self, x: Tensor, *, repeats: Any = None) -> Tensor:
        return x.repeat_interleave(self.repeats if repeats is None else repeats, self.dim)


class TensorRoll(_ShapeOp):
    """`x.roll(shifts, dims)`: what is pushed over the end of an axis comes in at its start."""

    shown = ("shifts", "dims")

    def __init__(self, shifts: Sequence[Any], dims: Sequence[int]) -> None:
        super().__init__()
        self.shifts = list(shifts)
        self.dims = list(dims)

    def forward(self, x: Tensor, *, shifts: Any = None) -> Tensor:
        return x.roll(self.shifts if shifts is None else shifts, self.dims)


class TensorFlip(_ShapeOp):
    """`x.flip(dims)`: the axes backwards."""

    shown = ("dims",)

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = list(dims)

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.dims)


class TensorWindows(_ShapeOp):
    """`x.unfold(dim, size, step)`: windows along an axis, their entries on a new last axis."""

    shown = ("dim", "size", "step")

    def __init__(self, dim: int, size: int, step: int) -> None:
        super().__init__()
        self.dim = dim
        self.size = size
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return x.unfold(self.dim, self.size, self.step)


class TensorGather(_ShapeOp):
    """`x.gather(dim, index)`."""

    shown = ("dim",)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return x.gather(self.dim, index)


@torch.fx.wrap  # an assignment cannot be traced, a call of a function can
def written(x: Tensor, index: Any, value: Any) -> Tensor:
    """A copy of x with `value` at `index`."""
    copied = x.clone()
    copied[index] = value
    return copied


def built_index(
    index: Sequence[str], values: Sequence[Any], positions: Sequence[Any] = (), computed: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """The Python index that `index`, `values` and `positions` of a `TensorSlice`, and further tensors, describe."""
    items: list[Any] = []
    place = taken = 0
    further = iter(computed)
    for item in index:
        if item == "$":
            items.append(next(further))
            continue
        if item == "@":
            items.append(positions[taken])
            taken += 1
            continue
        if item.startswith("["):
            items.append(list(values[place : place + int(item[1:-1])]))
            place += int(item[1:-1])
            continue
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
