"""Emitters of `x[...]` and `x[...] = y`, from the texts, values and positions of a `TensorSlice`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from amc_onnx_export._graph import Dim
from amc_onnx_export._op import Emitter, Op, Value

__all__ = ["EMITTERS"]

_END = 2**63 - 1
_LITERAL = 2**20
"""Tensors of up to so many entries have places that are stored."""


@dataclass
class _Index:
    """An index taken apart by axes of the input."""

    slices: dict[int, tuple[Dim, Dim, Dim]] = field(default_factory=dict)
    """Axis: start, end, step."""
    places: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Axis: the name of a tensor of places, and its rank; 0 for a single place."""
    new: list[int] = field(default_factory=list)
    """Axes of the result that are new."""


def _index(op: Op, rank: int, computed: list[Value]) -> _Index:
    values = [op.dim(one) for one in op.params.values]
    slots = [op.slot(name) for name in sorted(op.tensors, key=lambda name: int(name.rpartition("_")[2]))]
    ranks = [op.tensors[name].dim() for name in sorted(op.tensors, key=lambda name: int(name.rpartition("_")[2]))]
    found = _Index()
    used = sum(item not in ("...", "None") for item in op.params.index)
    axis = out = 0
    for item in op.params.index:
        if item == "None":
            found.new.append(out)
            out += 1
        elif item == "...":
            axis, out = axis + rank - used, out + rank - used
        elif item == "#":
            found.places[axis] = (op.scalar(values.pop(0)), 0)
            axis += 1
        elif item in ("@", "$"):
            name, wide = (slots.pop(0), ranks.pop(0)) if item == "@" else (computed[0].name, computed.pop(0).rank)
            found.places[axis] = (name, wide)
            axis, out = axis + 1, out + wide
        elif item.startswith("["):
            count = int(item[1:-1])
            found.places[axis] = (op.vector([values.pop(0) for _ in range(count)]), 1)
            axis, out = axis + 1, out + 1
        else:
            parts = [values.pop(0) if part == "#" else None for part in item.split(":")]
            start, end, step = (*parts, None)[:3]
            found.slices[axis] = (0 if start is None else start, _END if end is None else end, 1 if step is None else step)
            axis, out = axis + 1, out + 1
    return found


def _taken(op: Op, x: str | Value, index: _Index) -> str:
    """`x[index]`: slices first, then places from the last axis to the first, so that those before keep their numbers."""
    cut = {axis: one for axis, one in index.slices.items() if one != (0, _END, 1)}
    if cut:
        columns = [op.vector([one[part] for one in cut.values()]) for part in range(3)]
        x = op.add("Slice", x, columns[0], columns[1], op.vector(list(cut)), columns[2])
    for axis in sorted(index.places, reverse=True):
        x = op.add("Gather", x, index.places[axis][0], axis=axis)
    return op.unsqueeze(x, *index.new)


def _slice(op: Op) -> str:
    return _taken(op, op.x, _index(op, op.x.rank, op.inputs[1:]))


def _setitem(op: Op) -> str:
    """The places of all entries, indexed like the tensor, say where the value goes."""
    value: str | Value = op.cast(op.inputs[1], op.x.dtype) if len(op.inputs) > 1 else op.constant(op.params.number, op.x.dtype)
    if op.params.index in (["..."], [":"]):
        return op.add("Expand", value, op.shape(op.x))
    known = _known_places(op)
    if known is not None:
        where, shape = op.constant(known.reshape(-1)), op.vector(list(known.shape))
    else:
        numbers = op.add("Range", op.constant(0, torch.int64), op.add("Size", op.x), op.constant(1, torch.int64))
        places = _taken(op, op.add("Reshape", numbers, op.shape(op.x)), _index(op, op.x.rank, []))
        where, shape = op.reshape(places, [-1]), op.add("Shape", places)
    spread = op.reshape(op.add("Expand", value, shape), [-1])
    return op.like(op.add("ScatterElements", op.reshape(op.x, [-1]), where, spread, axis=0), op.x)


def _known_places(op: Op) -> torch.Tensor | None:
    """The places of a literal index in a tensor of known size."""
    sizes = [one for one in op.x.shape if one is not None]
    values = [op.dim(one) for one in op.params.values]
    literal = [one for one in values if isinstance(one, int)]
    if len(sizes) < op.x.rank or len(literal) < len(values) or math.prod(sizes) > _LITERAL:
        return None
    slots = [op.tensors[name] for name in sorted(op.tensors, key=lambda name: int(name.rpartition("_")[2]))]
    items: list[Any] = []
    for item in op.params.index:
        if item == "...":
            items.append(Ellipsis)
        elif item == "@":
            items.append(slots.pop(0).cpu())
        elif item.startswith("["):
            items.append([literal.pop(0) for _ in range(int(item[1:-1]))])
        else:
            parts = [literal.pop(0) if part == "#" else None for part in item.split(":")]
            items.append(parts[0] if item == "#" else slice(*parts))
    return torch.arange(math.prod(sizes)).reshape(sizes)[tuple(items)]


EMITTERS: dict[str, Emitter] = {"vn.slice": _slice, "vn.setitem": _setitem}
