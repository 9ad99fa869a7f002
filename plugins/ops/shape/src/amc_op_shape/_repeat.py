"""Repetition, rotation and reversal of axes: channels keep their identity in the new order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_op_shape import _modules
from amc_op_shape._ids import copied, int_list, literal
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, LayerHandler, Params, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FlipHandler", "RepeatHandler", "RepeatInterleaveHandler", "RollHandler"]


class RepeatParams(Params):
    """How often along each axis of the result."""

    repeats: list[Int]


class RepeatInterleaveParams(Params):
    """How often each position of axis `dim`."""

    repeats: Int
    dim: int


class RollParams(Params):
    """By how many positions each of the axes `dims` is rotated."""

    shifts: list[Int]
    dims: list[int]


class FlipParams(Params):
    """The axes that are reversed."""

    dims: list[int]


class RepeatHandler(LayerHandler):
    """`repeat` and `tile`: all copies of a channel share its fate."""

    Params = RepeatParams
    module_class = _modules.TensorRepeat

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "repeats")
        tiled = call.target.endswith("tile")
        keyword = "dims" if tiled else "repeats"
        first = "input" if call.target.startswith("torch.tile") else "self"
        if unknown := sorted(set(call.kwargs) - {first, keyword}):
            raise Declined(f"{call.target} with `{unknown[0]}=`")
        leading, repeats = call.varargs(first, keyword=keyword)
        short = len(leading[first].shape) - len(repeats) if tiled else 0
        return _modules.TensorRepeat([1] * short + int_list(call, keyword, repeats))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,), (shape,) = inputs, ids.output_shapes
        thin, counts = _thin(given, ids), [1] * len(shape)
        for axis in range(-given.dim(), 0):
            if thin.shape[axis] > 1:
                counts[axis] = shape[axis] // given.shape[axis]
        return thin.repeat(counts).expand(shape)


class RepeatInterleaveHandler(LayerHandler):
    """Both a number of repetitions and the axis must be known; repetitions per position are declined."""

    Params = RepeatInterleaveParams
    module_class = _modules.TensorRepeatInterleave

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "repeats")
        bound = call.bind("input", "repeats", dim=None, output_size=None)
        if not isinstance(bound["repeats"], Int) or bound["dim"] is None:
            raise Declined(f"{call.target} with {bound['repeats']!r} along {bound['dim']!r}")
        return _modules.TensorRepeatInterleave(bound["repeats"], literal(call, "dim", bound["dim"]))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,), (shape,) = inputs, ids.output_shapes
        thin, axis = _thin(given, ids), params.dim % given.dim()
        if thin.shape[axis] > 1:
            thin = thin.repeat_interleave(shape[axis] // given.shape[axis], axis)
        return thin.expand(shape)


class RollHandler(LayerHandler):
    """Channels that are rotated stay rotated: what is left of those that come over the end is the new shift."""

    Params = RollParams
    module_class = _modules.TensorRoll

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "shifts")
        bound = call.bind("input", "shifts", dims=None)
        shifts, dims = (list(one) if isinstance(one, list | tuple) else [one] for one in (bound["shifts"], bound["dims"]))
        if bound["dims"] in (None, (), []) or len(dims) != len(shifts):
            raise Declined(f"{call.target} of all entries in a row")
        rank = len(bound["input"].shape)
        axes = [literal(call, "dims", one) % rank for one in dims]
        if len(set(axes)) < len(axes):
            raise Declined(f"{call.target} of one axis twice")
        return _modules.TensorRoll(int_list(call, "shifts", shifts), axes)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        return [tuple(inputs[0])]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        thin = _thin(given, ids)
        for shift, dim in zip(params.shifts, params.dims, strict=True):
            if thin.shape[dim] == 1:
                continue
            if not isinstance(shift, int):
                ids.pin(thin, f"{self.spec.op} rotates them by a computed number")
                thin = thin.narrow(dim, 0, 1)
            else:
                thin = thin.roll(shift, dim)
        return thin.expand(given.shape)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        given: Any = module
        (before,), shifts = inputs, list(given.shifts)
        for place, dim in enumerate(given.dims):
            if before.restricts(dim):
                size = before.shape[dim]
                shifts[place] = int((before.axis(dim) >= size - shifts[place] % size).sum())
        return _modules.TensorRoll(shifts, given.dims)


class FlipHandler(LayerHandler):
    """`flip`, `fliplr`, `flipud`."""

    Params = FlipParams
    module_class = _modules.TensorFlip

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        name = call.target.rpartition(".")[2]
        if name != "flip":
            call.bind("input")
            return _modules.TensorFlip([1 if name == "fliplr" else 0])
        first = "input" if call.target == "torch.flip" else "self"
        _, dims = call.varargs(first, keyword="dims")
        return _modules.TensorFlip([literal(call, "dims", one) for one in dims])

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        return _thin(given, ids).flip(params.dims).expand(given.shape)


def _thin(given: Tensor, ids: ChannelIds) -> Tensor:
    """The ids with size 1 on each axis along which channels do not differ."""
    for axis in range(given.dim()):
        if not ids.varies(given, axis):
            given = given.narrow(axis, 0, min(1, given.shape[axis]))
    return given
