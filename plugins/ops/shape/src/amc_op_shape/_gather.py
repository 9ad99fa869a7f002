"""Sliding windows, and entries at computed places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_op_shape import _modules
from amc_op_shape._ids import copied, literal
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["GatherHandler", "WindowsHandler"]


class WindowsParams(Params):
    """As in `torch.Tensor.unfold`."""

    dim: int
    size: int
    step: int


class GatherParams(Params):
    """The axis on which the places are."""

    dim: int


class WindowsHandler(LayerHandler):
    """`x.unfold(dim, size, step)`; windows over channels pin them."""

    Params = WindowsParams
    module_class = _modules.TensorWindows

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        bound = call.bind("self", "dimension", "size", "step")
        return _modules.TensorWindows(*(literal(call, name, bound[name]) for name in ("dimension", "size", "step")))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = ids.mixed(inputs[0], [params.dim], f"{self.spec.op} takes windows over them")
        return given.unsqueeze(-1).expand(ids.output_shapes[0])


class GatherHandler(LayerHandler):
    """Along another axis than that of the channels, what is gathered from a channel belongs to it."""

    Params = GatherParams
    module_class = _modules.TensorGather

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        bound = call.bind("input", "dim", "index", sparse_grad=False)
        if not isinstance(bound["input"], Value) or not isinstance(bound["index"], Value):
            raise Declined(f"{call.target} of something other than two tensors")
        if call.values()[0] is not bound["input"]:
            raise Declined(f"{call.target} with its arguments in another order")
        return _modules.TensorGather(literal(call, "dim", bound["dim"]))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        source, index = inputs
        dim = params.dim % max(1, source.dim())
        parts = [ids.mixed(one, [dim], f"{self.spec.op} takes computed ones of them") for one in (source, index)]
        if parts[0].shape != parts[1].shape:
            for one in parts:
                ids.pin(one, f"{self.spec.op} takes part of them")
            return ids.fixed(f"made by {self.spec.op}")
        return ids.tie(*parts).expand(ids.output_shapes[0])
