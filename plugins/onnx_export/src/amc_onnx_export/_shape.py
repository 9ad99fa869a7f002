"""Emitters of changes of shape: joins, splits, axes, repetition."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from amc_onnx_export._graph import Dim
from amc_onnx_export._op import Emitter, Op, Value

__all__ = ["EMITTERS", "window_places"]

END = 2**63 - 1


def _cat(op: Op) -> str:
    rank = op.out.rank
    parts = [op.cast(one, op.out.dtype) for one in op.inputs if one.rank == rank]  # torch lets an empty (0,) take part
    return op.add("Concat", *parts, axis=op.axis(op.params.dim, rank))


def _stack(op: Op) -> str:
    axis = op.axis(op.params.dim, op.out.rank)
    return op.add("Concat", *(op.unsqueeze(op.cast(one, op.out.dtype), axis) for one in op.inputs), axis=axis)


def _reshape(op: Op) -> str:
    if op.params.shape is None:
        return op.like(op.x, op.inputs[1])
    return op.reshape(op.x, [op.dim(one) for one in op.params.shape], op.out.shape)


def _flatten(op: Op) -> str:
    if not op.x.rank:
        return op.reshape(op.x, [1])
    start, end = op.axis(op.params.start_dim), op.axis(op.params.end_dim)
    known = op.out.shape
    if sum(one is None for one in known) <= 1:
        return op.reshape(op.x, [], known)
    sizes: list[Dim] = [op.size(op.x, axis) for axis in range(op.x.rank)]
    return op.reshape(op.x, [*sizes[:start], -1, *sizes[end + 1 :]])


def _unflatten(op: Op) -> str:
    axis = op.axis(op.params.dim)
    known = op.out.shape
    if sum(one is None for one in known) <= 1:
        return op.reshape(op.x, [], known)
    sizes: list[Dim] = [op.size(op.x, one) for one in range(op.x.rank)]
    return op.reshape(op.x, [*sizes[:axis], *(op.dim(one) for one in op.params.sizes), *sizes[axis + 1 :]])


def _permute(op: Op) -> str:
    return op.add("Transpose", op.x, perm=[op.axis(one) for one in op.params.dims])


def _transpose(op: Op) -> str:
    order = list(range(op.x.rank))
    first, second = op.axis(op.params.dim0), op.axis(op.params.dim1)
    order[first], order[second] = second, first
    return op.add("Transpose", op.x, perm=order)


def _squeeze(op: Op) -> str:
    if op.params.dim is None and None in op.x.shape:
        return op.add("Squeeze", op.x)  # which axes go is known at run time only, in torch too
    dims = range(op.x.rank) if op.params.dim is None else sorted({op.axis(one) for one in op.params.dim}) if op.x.rank else []
    if any(op.x.shape[axis] is None for axis in dims):
        op.refuse("the size of an axis that goes if it is 1 is known at run time only")
    return op.squeeze(op.x, *(axis for axis in dims if op.x.shape[axis] == 1))


def _unsqueeze(op: Op) -> str:
    return op.unsqueeze(op.x, op.axis(op.params.dim, op.x.rank + 1))


def _expand(op: Op) -> str:
    if op.params.shape is None:
        return op.add("Expand", op.x, op.shape(op.inputs[1]))
    dims = [op.dim(one) for one in op.params.shape]
    return op.add("Expand", op.x, op.vector([1 if one == -1 else one for one in dims]))


def _pieces(op: Op, sizes: Sequence[Dim], axis: int) -> list[str]:
    if len(op.outputs) == 1:
        return [op.slice(op.x, axis, 0, sizes[0])]
    return op.add_many("Split", op.x, op.vector(sizes), count=len(op.outputs), axis=axis)


def _chunk(op: Op) -> str | list[str]:
    axis = op.axis(op.params.dim)
    if op.params.chunks == 1 and op.params.sizes is None:
        return op.x.name
    known = op.params.sizes or [one.shape[axis] for one in op.outputs]
    if None not in known:
        return _pieces(op, known, axis)
    return op.add_many("Split", op.x, count=len(op.outputs), axis=axis, num_outputs=len(op.outputs))


def _split(op: Op) -> list[str]:
    axis = op.axis(op.params.dim)
    if isinstance(op.params.sizes, list):
        return _pieces(op, [op.dim(one) for one in op.params.sizes], axis)
    size = op.dim(op.params.sizes)
    taken = op.integer("mul", size, len(op.outputs) - 1)
    return _pieces(op, [*[size] * (len(op.outputs) - 1), op.integer("sub", op.size(op.x, axis), taken)], axis)


def _unbind(op: Op) -> list[str]:
    axis = op.axis(op.params.dim)
    return [op.add("Gather", op.x, op.constant(place, torch.int64), axis=axis) for place in range(op.params.count)]


def _repeat(op: Op) -> str:
    repeats = [op.dim(one) for one in op.params.repeats]
    x = op.unsqueeze(op.x, *range(len(repeats) - op.x.rank))
    return op.add("Tile", x, op.vector(repeats))


def _repeat_interleave(op: Op) -> str:
    axis, times = op.axis(op.params.dim), op.dim(op.params.repeats)
    ones: list[Dim] = [1] * (op.x.rank + 1)
    tiled = op.add("Tile", op.unsqueeze(op.x, axis + 1), op.vector([*ones[: axis + 1], times, *ones[axis + 2 :]]))
    sizes: list[Dim] = [op.size(op.x, one) for one in range(op.x.rank)] if sum(one is None for one in op.out.shape) > 1 else []
    return op.reshape(tiled, [*sizes[:axis], -1, *sizes[axis + 1 :]], op.out.shape)


def _roll(op: Op) -> str:
    result: str | Value = op.x
    for shift, dim in zip(op.params.shifts, op.params.dims, strict=True):
        axis = op.axis(dim)
        size = op.size(op.x, axis)
        start = op.integer("sub", size, op.integer("mod", op.dim(shift), size))
        result = op.add("Concat", op.slice(result, axis, start, END), op.slice(result, axis, 0, start), axis=axis)
    return result if isinstance(result, str) else result.name


def _flip(op: Op) -> str:
    result: str | Value = op.x
    for dim in op.params.dims:
        result = op.slice(result, op.axis(dim), END, -END, -1)
    return result if isinstance(result, str) else result.name


def window_places(op: Op, size: Dim, length: int, step: int, dilation: int = 1) -> str:
    """Places (windows, length) of the entries of windows along an axis of `size` entries."""
    offsets = torch.arange(length) * dilation
    last = dilation * (length - 1)
    if isinstance(size, int):
        return op.constant(torch.arange(0, size - last, step)[:, None] + offsets)
    end = op.scalar(op.integer("sub", size, last))
    starts = op.add("Range", op.constant(0, torch.int64), end, op.constant(step, torch.int64))
    return op.add("Add", op.unsqueeze(starts, 1), op.constant(offsets))


def _windows(op: Op) -> str:
    axis = op.axis(op.params.dim)
    places = window_places(op, op.size(op.x, axis), op.params.size, op.params.step)
    taken = op.add("Gather", op.x, places, axis=axis)
    order = list(range(op.x.rank + 1))
    return op.add("Transpose", taken, perm=[*order[: axis + 1], *order[axis + 2 :], axis + 1])


def _gather(op: Op) -> str:
    return op.add("GatherElements", op.x, op.inputs[1], axis=op.axis(op.params.dim))


def _sampler(op: Op) -> str:
    return op.add("Gather", op.x, op.constant(op.params.index, torch.int64), axis=1)


EMITTERS: dict[str, Emitter] = {
    "vn.cat": _cat,
    "vn.stack": _stack,
    "vn.reshape": _reshape,
    "vn.flatten": _flatten,
    "vn.unflatten": _unflatten,
    "vn.permute": _permute,
    "vn.transpose": _transpose,
    "vn.squeeze": _squeeze,
    "vn.unsqueeze": _unsqueeze,
    "vn.expand": _expand,
    "vn.chunk": _chunk,
    "vn.split": _split,
    "vn.unbind": _unbind,
    "vn.repeat": _repeat,
    "vn.repeat_interleave": _repeat_interleave,
    "vn.roll": _roll,
    "vn.flip": _flip,
    "vn.windows": _windows,
    "vn.gather": _gather,
    "vn.pruning_sampler": _sampler,
}
