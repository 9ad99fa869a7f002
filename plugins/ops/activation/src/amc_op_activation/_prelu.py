"""PReLU: the activation that owns a slope per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from amc_plugins.handlers import Call, ChannelIds, Declined, ElementwiseHandler, Kept, assign_tensors, with_flags_of
from amc_plugins.handlers import Params as BaseParams

__all__ = ["PReLUHandler"]


class PReLUHandler(ElementwiseHandler):
    """x where x > 0, else weight * x; `weight` has one entry, or one for each position on axis 1."""

    class Params(BaseParams):
        num_parameters: int = 1

    module_class = nn.PReLU

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            return with_flags_of(_prelu(original.weight), original)
        bound = call.bind("input", "weight")
        weight = call.take(bound["weight"])
        if weight is None:
            raise Declined(f"{call.target} without a weight")
        module = _prelu(weight)
        module.weight.requires_grad_(bound["weight"].constant.requires_grad)
        return module

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = nn.PReLU(params.num_parameters, device="meta")
        assign_tensors(module, tensors)
        return module

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        if params.num_parameters > 1:
            ids.channels(inputs[0], 1)
        return inputs[0]

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        weight = module.get_parameter("weight")
        if len(weight) == 1 or not inputs[0].restricts(1):
            return module
        return _prelu(weight.detach()[inputs[0].axis(1).to(weight.device)])


def _prelu(weight: Tensor) -> nn.PReLU:
    module = nn.PReLU(len(weight), device="meta")
    assign_tensors(module, {"weight": weight})
    return module
