"""`vn.group_norm`: weight * (x - mean) / sqrt(var + eps) + bias, with the mean and variance of each group of channels.

Y. Wu and K. He, Group Normalization, ECCV 2018, equations 1 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, PositiveInt
from torch import Tensor, nn

from amc_op_norm._calls import affine_tensors, named, trainable_as, validated
from amc_plugins.handlers import Call, ChannelIds, ElementwiseHandler, Kept, assign_tensors, with_flags_of
from amc_plugins.handlers import Params as BaseParams
from amc_plugins.plugin import GraphError

__all__ = ["GroupNormHandler"]


class GroupNormParams(BaseParams):
    """As in `torch.nn.GroupNorm`."""

    num_groups: PositiveInt
    num_channels: PositiveInt
    eps: float = 1e-5
    affine: bool = True


class GroupNormHandler(ElementwiseHandler):
    """Of a group all channels go or none: each of them changes what the others are divided by.

    Groups of one channel are channels as they are; a single group over all channels pins them.
    """

    Params = GroupNormParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            tensors = named(weight=original.weight, bias=original.bias)
            if "weight" in tensors:  # newer torch can leave the bias out
                tensors.setdefault("bias", original.weight.new_zeros(original.weight.shape))
            built = self.build(self.params(original), tensors)
            if original.affine and original.bias is None:
                built.get_parameter("bias").requires_grad_(False)
                built.get_parameter("weight").requires_grad_(original.weight.requires_grad)
                return built.train(original.training)
            return with_flags_of(built, original)
        if call.target == "torch.group_norm":
            bound = call.bind("input", "num_groups", weight=None, bias=None, eps=1e-5, cudnn_enabled=True)
        else:
            bound = call.bind("input", "num_groups", weight=None, bias=None, eps=1e-5)
        tensors = affine_tensors(call, bound)
        params = validated(
            call,
            GroupNormParams,
            num_groups=bound["num_groups"],
            num_channels=bound["input"].shape[1],
            eps=bound["eps"],
            affine=bool(tensors),
        )
        return trainable_as(self.build(params, tensors), bound)

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return GroupNormParams(num_groups=one.num_groups, num_channels=one.num_channels, eps=one.eps, affine=one.affine)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = nn.GroupNorm(**params.model_dump(), device="meta")
        assign_tensors(module, tensors)
        return module

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        one = ids.mixed(given, range(2, given.dim()), f"{self.spec.op} normalises over them")
        if params.num_groups == 1:
            ids.mixed(one, [1], f"{self.spec.op} normalises over all channels (each output depends on all of them)")
            return given
        groups = ids.channels(one, 1).view(params.num_groups, -1)
        ids.tie(*groups.unbind(1))
        return given

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        params: Any = self.params(module)
        if not inputs[0].restricts(1):
            return module
        kept, size = inputs[0].axis(1), params.num_channels // params.num_groups
        groups = (kept // size).unique()
        if len(groups) * size != len(kept):
            raise GraphError(
                f"{len(kept)} channels would stay of {params.num_groups} groups of {size}, expected were whole groups",
                hint="choose whole channels of its channel groups (`channel_map(network).groups`)",
            )
        tensors = {name: one[kept.to(one.device)] for name, one in self.tensors(module).items()}
        return self.build(params.model_copy(update={"num_groups": len(groups), "num_channels": len(kept)}), tensors)
