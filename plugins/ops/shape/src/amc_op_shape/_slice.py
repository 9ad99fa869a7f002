"""Indexing with ints, slices, Ellipsis, None and known positions; `narrow`, `select` and `index_select` are such indices."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_op_shape import _modules
from amc_op_shape._ids import copied, literal
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, LayerHandler, Params, Ref, Shape, Value

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SliceHandler", "SliceParams", "cuts_of", "kept_index", "parsed"]

LISTED = 4096
"""Up to so many positions are parameters, which `channels` sees; longer lists are a tensor."""


class SliceParams(Params):
    """See `TensorSlice`: `#` and lists in `index` stand for the next of `values`."""

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
    """Axis of the output (the first one, of a tensor of positions); None for an int, which takes the axis away."""
    positions: Sequence[int] | None
    """What is taken of the axis; None where that is known at run time only, or held by a tensor."""


class SliceHandler(LayerHandler):
    """What is taken of the channels keeps its identity, in any order and step; a single channel taken out is pinned.

    Places that the network computes leave apart what differs along other axes. Masks that it computes are declined, and so are
    several lists or tensors in one index.
    """

    Params = SliceParams
    module_class = _modules.TensorSlice

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "values")
        method = call.target.rpartition(".")[2]
        if method == "__getitem__":
            given = call.bind("self", "index")["index"]
            return _indexed(call, given if isinstance(given, tuple) else (given,))
        if method == "narrow":
            bound = call.bind("input", "dim", "start", "length")
            return _indexed(call, _on_axis(call, bound, _narrow(call, bound["start"], bound["length"])))
        bound = call.bind("input", "dim", "index")
        if method == "index_select" and (not isinstance(bound["index"], Value) or call.values()[0] is bound["index"]):
            raise Declined(f"{call.target} with {bound['index']!r} for `index`")
        return _indexed(call, _on_axis(call, bound, bound["index"]))

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        positions = [tensors[name].detach().clone() for name in sorted(tensors, key=lambda name: int(name.rpartition("_")[2]))]
        return _modules.TensorSlice(params.index, params.values, positions)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = tuple(inputs[0])
        if 0 in sizes:
            return None
        cuts = cuts_of(params.index, params.values, sizes, None)
        made = [1] * (sum(cut.out is not None for cut in cuts) + params.index.count("None"))
        for cut in cuts:
            if cut.positions is None:
                return None
            if cut.out is not None:
                made[cut.out] = len(cut.positions)
        return [tuple(made)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given, *computed), (shape,) = inputs, ids.output_shapes
        for one in computed:
            ids.pin(one, f"{self.spec.op} takes what is at them")
        sizes = tuple(given.shape)
        if 0 in sizes or 0 in shape:
            return ids.fixed(f"made by {self.spec.op} of no entries")
        small = [1] * len(shape)
        varying = [axis for axis in range(len(sizes)) if ids.varies(given, axis)]
        cuts = {cut.axis: cut for cut in cuts_of(params.index, params.values, sizes, shape)} if varying else {}
        given = ids.cut(given, [axis for axis in range(len(sizes)) if axis not in varying])
        for axis in varying:
            cut = cuts[axis]
            if cut.positions is None:
                first = given.narrow(axis, 0, 1)
                if any(ids.varies(first, other) for other in range(axis + 1, len(sizes))):
                    ids.tie(given, first.expand(given.shape))  # what differs along another axis as well: there it stays apart
                else:
                    ids.pin(given, f"{self.spec.op} takes channels at a place that is not a parameter")
                given = first
            elif cut.out is None:
                given = given.narrow(axis, cut.positions[0], 1)
                ids.pin(given, f"{self.spec.op} takes one channel out")
            else:
                given = given.index_select(axis, torch.tensor(list(cut.positions), dtype=torch.long))
                small[cut.out] = len(cut.positions)
        return given.reshape(small).expand(shape)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        before, after = inputs[0], outputs[0]
        given: Any = module
        index, values = kept_index(given.index, given.values, before, after.shape)
        return _modules.TensorSlice(index, values, given.positions)


def kept_index(index: Sequence[str], values: Any, before: Kept, result: Shape | None) -> tuple[list[str], list[Any]]:
    """The index that takes of what is kept what `index` took of the whole; see `cuts_of`."""
    index = list(index)
    items = _grouped(index, values)
    for cut in cuts_of(index, values, before.shape, result):
        whole = cut.place == len(index) or index[cut.place] in (":", "...")
        if whole or cut.positions is None or not before.restricts(cut.axis):
            continue
        kept = before.axis(cut.axis)
        if cut.out is None:
            items[cut.place] = [int((kept < cut.positions[0]).sum())]
            continue
        new = {int(old): place for place, old in enumerate(kept)}
        index[cut.place], items[cut.place] = _spelled([new[old] for old in cut.positions if old in new])
    return index, [value for item in items for value in item]


def _on_axis(call: Call, bound: Mapping[str, Any], item: Any) -> tuple[Any, ...]:
    dim = literal(call, "dim", bound["dim"])
    return (*(slice(None),) * dim, item) if dim >= 0 else (Ellipsis, item, *(slice(None),) * (-dim - 1))


def _narrow(call: Call, start: Any, length: Any) -> slice:
    if not isinstance(start, Int) or not isinstance(length, Int):
        raise Declined(f"{call.target} at {start!r} for {length!r}")
    if isinstance(start, int) and isinstance(length, int):
        return slice(start, start + length if start >= 0 or start + length < 0 else None)
    if start != 0:
        raise Declined(f"{call.target} at a computed place")
    return slice(None, length)


def _indexed(call: Call, given: Sequence[Any]) -> nn.Module:
    return _modules.TensorSlice(*parsed(call, given))


def parsed(call: Call, given: Sequence[Any]) -> tuple[list[str], list[Any], list[Tensor]]:
    """An index as `TensorSlice` takes it: texts, values, tensors of positions. Raises Declined for what it cannot hold."""
    index: list[str] = []
    values: list[Any] = []
    tensors: list[Tensor] = []
    for item in given:
        if item is Ellipsis or item is None:
            index.append("..." if item is Ellipsis else "None")
        elif isinstance(item, Value) and item.constant is None and item.dtype in (torch.int32, torch.int64):
            index.append("$")
        elif isinstance(item, Value | list | tuple | range):
            positions = _positions_of(call, item)
            if positions.dim() == 0:
                index.append("#")
                values.append(int(positions))
            elif positions.dim() == 1 and len(positions) <= LISTED:
                index.append(f"[{len(positions)}]")
                values.extend(positions.tolist())
            else:
                index.append("@")
                tensors.append(positions)
        else:
            parts = [item.start, item.stop, item.step] if isinstance(item, slice) else [item]
            parts = [int(part) if isinstance(part, numbers.Integral) and not isinstance(part, bool) else part for part in parts]
            if any(isinstance(part, bool) or not isinstance(part, Int | None) for part in parts):
                raise Declined(f"{call.target} with {item!r} in the index")
            texts = ["" if part is None else "#" for part in parts]
            index.append(":".join(texts[:2]) + (f":{texts[2]}" if texts[2] else "") if isinstance(item, slice) else "#")
            values.extend(part for part in parts if part is not None)
    several = [item for item in index if item in ("@", "$") or item.startswith("[")]
    if len(several) > 1 or (several and "#" in index):
        raise Declined(f"{call.target} with several positions that are broadcast against each other")
    return index, values, tensors


def _positions_of(call: Call, item: Any) -> Tensor:
    """Known positions, int64: of a list, of a constant tensor, or of where a mask over one axis is true."""
    if isinstance(item, Value):
        positions = call.take(item)
        assert positions is not None
    else:
        if not all(isinstance(one, int) for one in item):
            raise Declined(f"{call.target} with {item!r} in the index")
        positions = torch.tensor([int(one) for one in item] if not isinstance(next(iter(item), 0), bool) else list(item))
    if positions.dtype == torch.bool:
        if positions.dim() != 1:
            raise Declined(f"{call.target} with a mask over several axes")
        return positions.nonzero().flatten()
    if positions.dtype == torch.uint8 or (positions.is_floating_point() and positions.numel()):
        raise Declined(f"{call.target} with positions of type {positions.dtype}")
    return positions.long()


def _spelled(positions: list[int]) -> tuple[str, list[int]]:
    """Ascending positions without gaps as a slice, others as a list."""
    first = positions[0] if positions else 0
    if positions == list(range(first, first + len(positions))):
        return "#:#", [first, first + len(positions)]
    return f"[{len(positions)}]", positions


def _grouped(index: Sequence[str], values: Any) -> list[list[Any]]:
    """The values of each item of an index."""
    left = list(values)
    counts = [int(item[1:-1]) if item.startswith("[") else item.count("#") for item in index]
    return [[left.pop(0) for _ in range(count)] for count in counts]


def cuts_of(index: Sequence[str], values: Any, shape: Shape, result: Shape | None) -> list[_Cut]:
    """What each item of an index takes of its axis. A computed bound follows from the sizes if the other is known.

    Axes that the index does not reach are taken whole. `result`: the shape of what is taken, if it is known.
    """
    items = _modules.built_index(index, values, ["@"] * index.count("@"), ["@"] * index.count("$"))
    used = sum(item is not None and item is not Ellipsis for item in items)
    left = len(shape) - sum(isinstance(item, int | Ref) for item in items) + items.count(None)
    wide = 1 if result is None else len(result) - left + 1
    cuts = []
    axis = out = 0
    for place, item in enumerate([*items, *([] if Ellipsis in items else [Ellipsis])]):
        if item is None:
            out += 1
        elif item is Ellipsis:
            for _ in range(len(shape) - used):
                cuts.append(_Cut(place, axis, out, range(shape[axis])))
                axis, out = axis + 1, out + 1
        elif item == "@":
            cuts.append(_Cut(place, axis, out, None))
            axis, out = axis + 1, out + wide
        elif isinstance(item, list):
            cuts.append(_Cut(place, axis, out, [one % shape[axis] for one in item]))
            axis, out = axis + 1, out + 1
        elif isinstance(item, slice):
            cuts.append(_Cut(place, axis, out, _positions(item, shape[axis], None if result is None else result[out])))
            axis, out = axis + 1, out + 1
        else:
            start = item % shape[axis] if isinstance(item, int) else None
            cuts.append(_Cut(place, axis, None, None if start is None else range(start, start + 1)))
            axis += 1
    return cuts


def _positions(item: slice, size: int, taken: int | None) -> range | None:
    start, stop, step = item.start, item.stop, 1 if item.step is None else item.step
    known = [part is None or isinstance(part, int) for part in (start, stop, step)]
    if all(known):
        return range(*item.indices(size))
    if not known[2] or taken is None:
        return None
    if known[0]:
        first = slice(start, None, step).indices(size)[0]
        return range(first, first + taken * step, step)
    if known[1] and step == 1:
        last = slice(None, stop).indices(size)[1]
        return range(last - taken, last)
    return None
