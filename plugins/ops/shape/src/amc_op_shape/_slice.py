"""Indexing with ints, slices, Ellipsis and None."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amc_op_shape import _modules
from amc_op_shape._ids import copied, varies
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, LayerHandler, Params, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["SliceHandler"]


class SliceParams(Params):
    """See `TensorSlice`: `#` in `index` stands for the next of `values`."""

    index: list[str]
    values: list[Int] = []


@dataclass(frozen=True)
class _Cut:
    """One item of an index on the axis that it applies to."""

    place: int
    """Which item of the index."""
    axis: int
    """Axis of the input."""
    out: int | None
    """Axis of the output; None for an int, which takes the axis away."""
    positions: range | None
    """What is taken of the axis; None where that is known at run time only."""


class SliceHandler(LayerHandler):
    """A slice of channels keeps its channels; a single channel taken out is pinned, and so is what steps over channels.

    Indices that are tensors, lists or bools are declined.
    """

    Params = SliceParams
    module_class = _modules.TensorSlice

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "values")
        given = call.bind("self", "index")["index"]
        index: list[str] = []
        values: list[Any] = []
        for item in given if isinstance(given, tuple) else (given,):
            parts = [item.start, item.stop, item.step] if isinstance(item, slice) else [item]
            parts = [int(part) if isinstance(part, numbers.Integral) and not isinstance(part, bool) else part for part in parts]
            if item is Ellipsis or item is None:
                index.append("..." if item is Ellipsis else "None")
                continue
            if any(isinstance(part, bool) or not isinstance(part, Int | None) for part in parts):
                raise Declined(f"{call.target} with {item!r} in the index")
            texts = ["" if part is None else "#" for part in parts]
            index.append(":".join(texts[:2]) + (f":{texts[2]}" if texts[2] else "") if isinstance(item, slice) else "#")
            values.extend(part for part in parts if part is not None)
        return _modules.TensorSlice(index, values)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,), (shape,) = inputs, ids.output_shapes
        for cut in sorted(_cuts(params.index, params.values, tuple(given.shape), shape), key=lambda cut: -cut.axis):
            wide = varies(given, cut.axis)
            if wide and cut.positions is None:
                ids.pin(given, f"{self.spec.op} takes channels at a computed place")
            elif wide and cut.positions is not None and cut.positions.step != 1 and len(cut.positions) > 1:
                ids.pin(given, f"{self.spec.op} steps over channels")
            if cut.out is None:
                start = cut.positions[0] if cut.positions is not None else 0
                given = given.narrow(cut.axis, start, 1)
                if wide:
                    ids.pin(given, f"{self.spec.op} takes one channel out")
                continue
            positions = cut.positions if cut.positions is not None else range(shape[cut.out])
            taken = slice(positions.start, positions[-1] + 1, positions.step) if positions else slice(0, 0)
            given = given[(slice(None),) * cut.axis + (taken,)]
        return given.reshape(shape)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        (before,), (after,) = inputs, outputs
        index: list[str] = list(module.index)  # type: ignore[arg-type]
        items = _grouped(index, module.values)
        for cut in _cuts(index, module.values, before.shape, after.shape):
            if not before.restricts(cut.axis) or cut.positions is None or index[cut.place] == ":":
                continue
            kept = before.axis(cut.axis)
            bounds = [cut.positions.start, cut.positions.start + len(cut.positions)]
            moved = [int((kept < bound).sum()) for bound in bounds]
            if cut.out is None:
                items[cut.place] = [moved[0]]
            else:
                index[cut.place], items[cut.place] = "#:#", moved
        return _modules.TensorSlice(index, [value for item in items for value in item])


def _grouped(index: Sequence[str], values: Any) -> list[list[Any]]:
    """The values of each item of an index."""
    left = list(values)
    return [[left.pop(0) for _ in range(item.count("#"))] for item in index]


def _cuts(index: Sequence[str], values: Any, shape: Shape, result: Shape) -> list[_Cut]:
    """What each int or slice of an index takes of its axis. A computed bound follows from the sizes if the other is known."""
    items = _modules.built_index(index, values)
    used = sum(item is not None and item is not Ellipsis for item in items)
    cuts = []
    axis = out = 0
    for place, item in enumerate(items):
        if item is None:
            out += 1
        elif item is Ellipsis:
            axis, out = axis + len(shape) - used, out + len(shape) - used
        elif isinstance(item, slice):
            cuts.append(_Cut(place, axis, out, _positions(item, shape[axis], result[out])))
            axis, out = axis + 1, out + 1
        else:
            start = item % shape[axis] if isinstance(item, int) else None
            cuts.append(_Cut(place, axis, None, None if start is None else range(start, start + 1)))
            axis += 1
    return cuts


def _positions(item: slice, size: int, taken: int) -> range | None:
    start, stop, step = item.start, item.stop, 1 if item.step is None else item.step
    known = [part is None or isinstance(part, int) for part in (start, stop, step)]
    if all(known):
        return range(*item.indices(size))
    if not known[2]:
        return None
    if known[0]:
        first = slice(start, None, step).indices(size)[0]
        return range(first, first + taken * step, step)
    if known[1] and step == 1:
        last = slice(None, stop).indices(size)[1]
        return range(last - taken, last)
    return None
