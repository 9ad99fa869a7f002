"""Broadcasting to a shape, given in numbers or by another tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_op_shape import _modules
from amc_op_shape._ids import copied, int_list, kept_sizes
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, LayerHandler, Params, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ExpandHandler"]


class ExpandParams(Params):
    """The new shape, -1 where the size stays; None: that of the second input."""

    shape: list[Int] | None = None


class ExpandHandler(LayerHandler):
    """`expand`, `expand_as`, `broadcast_to`. With a second tensor, channels that would be laid on each other are tied."""

    Params = ExpandParams
    module_class = _modules.TensorExpand

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "shape")
        if call.target.endswith("expand_as"):
            if not isinstance(call.bind("self", "other")["other"], Value):
                raise Declined(f"{call.target} to something that is no tensor")
            return _modules.TensorExpand()
        keyword = "size" if call.target.endswith("_to") or call.target.endswith("expand") else "shape"
        first = "input" if call.target.startswith("torch.broadcast") else "self"
        if unknown := sorted(set(call.kwargs) - {first, keyword}):
            raise Declined(f"{call.target} with `{unknown[0]}=`")
        _, shape = call.varargs(first, keyword=keyword)
        return _modules.TensorExpand(int_list(call, keyword, shape))

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        wanted = list(inputs[1]) if params.shape is None else list(params.shape)
        new = len(wanted) - len(inputs[0])
        if new < 0 or not all(isinstance(one, int) for one in wanted):
            return None
        have = [*wanted[:new], *inputs[0]]
        made = [old if size == -1 else size for old, size in zip(have, wanted, strict=True)]
        fits = all(size >= 0 and old in (1, size) for old, size in zip(have, made, strict=True))
        return [tuple(made)] if fits else None

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,) = ids.output_shapes
        return ids.tie(*inputs).expand(shape) if len(inputs) > 1 else inputs[0].expand(shape)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        shape: Any = module.shape
        if shape is None:
            return module
        return _modules.TensorExpand(kept_sizes(shape, outputs[0].new_shape, outputs[0].shape))
