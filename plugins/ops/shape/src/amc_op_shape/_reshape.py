"""Reshape, flatten and unflatten: the entries stay in their order, the axes change."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from torch import nn

from amc_op_shape import _modules
from amc_op_shape._ids import copied, int_list, kept_sizes, literal, reshaped
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, LayerHandler, Params, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FlattenHandler", "ReshapeHandler", "UnflattenHandler"]


class ReshapeParams(Params):
    """The new shape, one size may be -1; None: that of the second input."""

    shape: list[Int] | None = None


class FlattenParams(Params):
    """The first and the last of the axes that become one."""

    start_dim: int = 0
    end_dim: int = -1


class UnflattenParams(Params):
    """The axis and what it becomes; one size may be -1."""

    dim: int
    sizes: list[Int]


class _EntriesInOrder(LayerHandler):
    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return reshaped(inputs[0], ids.output_shapes[0], ids)


class ReshapeHandler(_EntriesInOrder):
    """`view`, `reshape`, `view_as` and `reshape_as`. A view of another dtype is declined."""

    Params = ReshapeParams
    module_class = _modules.TensorReshape

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "shape")
        if call.target.endswith("_as"):
            if not isinstance(call.bind("self", "other")["other"], Value):
                raise Declined(f"{call.target} to something that is no tensor")
            return _modules.TensorReshape()
        keyword = "size" if call.target.endswith("view") else "shape"
        first = "input" if call.target == "torch.reshape" else "self"
        if unknown := sorted(set(call.kwargs) - {first, keyword}):
            raise Declined(f"{call.target} with `{unknown[0]}=`")
        _, shape = call.varargs(first, keyword=keyword)
        return _modules.TensorReshape(int_list(call, keyword, shape))

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        made = _filled(inputs[1] if params.shape is None else params.shape, prod(inputs[0]))
        return None if made is None else [made]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        result = super().channels(params, inputs, ids)
        return ids.tie(result, *inputs[1:])  # `view_as`: the shapes must stay alike

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        shape: Any = module.shape
        if shape is None:
            return module
        return _modules.TensorReshape(kept_sizes(shape, outputs[0].new_shape, outputs[0].shape))


class FlattenHandler(_EntriesInOrder):
    """Channels of a flattened map own as many features as the map has positions."""

    Params = FlattenParams
    module_class = _modules.TensorFlatten

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        if call.target.endswith("ravel"):
            call.bind("input")
            return _modules.TensorFlatten(0, -1)
        bound = call.bind("input", start_dim=0, end_dim=-1)
        return _modules.TensorFlatten(*(literal(call, name, bound[name]) for name in ("start_dim", "end_dim")))

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = tuple(inputs[0])
        if not sizes:
            return [(1,)]
        first, last = _position(params.start_dim, len(sizes)), _position(params.end_dim, len(sizes))
        return [(*sizes[:first], prod(sizes[first : last + 1]), *sizes[last + 1 :])] if first <= last else None


class UnflattenHandler(_EntriesInOrder):
    """The inverse of flatten. Named dimensions are declined."""

    Params = UnflattenParams
    module_class = _modules.TensorUnflatten

    def module(self, call: Call) -> nn.Module:
        if isinstance(call.original, nn.Unflatten):
            given = {"dim": call.original.dim, "sizes": call.original.unflattened_size}
        elif call.original is not None:
            return copied(call, "sizes")
        else:
            given = call.bind("input", "dim", "sizes")
        return _modules.TensorUnflatten(literal(call, "dim", given["dim"]), int_list(call, "sizes", given["sizes"]))

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        at = _position(params.dim, len(inputs[0]))
        made = _filled(params.sizes, inputs[0][at])
        return None if made is None else [(*inputs[0][:at], *made, *inputs[0][at + 1 :])]

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        sizes: Any = module.sizes
        (after,) = outputs
        start = _position(module.dim, len(inputs[0].shape))
        axes = slice(start, start + len(sizes))
        return _modules.TensorUnflatten(start, kept_sizes(sizes, after.new_shape[axes], after.shape[axes]))


def _filled(given: Sequence[Any], entries: int) -> Shape | None:
    """Sizes of so many entries, one of which may be -1; None where they are computed, or do not fit, which torch explains."""
    sizes = list(given)
    if not all(isinstance(one, int) for one in sizes):
        return None
    known = prod(one for one in sizes if one != -1)
    if -1 in sizes and known:
        sizes[sizes.index(-1)] = entries // known
    return tuple(sizes) if min(sizes, default=0) >= 0 and prod(sizes) == entries else None


def _position(dim: Any, rank: int) -> int:
    return int(dim) % rank
