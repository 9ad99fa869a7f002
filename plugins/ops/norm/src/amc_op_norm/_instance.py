"""`vn.instance_norm`: weight * (x - mean) / sqrt(var + eps) + bias, with the mean and variance of each channel of each sample.

D. Ulyanov, A. Vedaldi and V. Lempitsky, Instance Normalization, arXiv:1607.08022, equation 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, PositiveInt
from torch import Tensor, nn

from amc_op_norm._calls import affine_tensors, named, trainable_as, validated
from amc_plugins.handlers import Call, ChannelIds, Declined, ElementwiseHandler, Kept, assign_tensors, with_flags_of
from amc_plugins.handlers import Params as BaseParams

__all__ = ["InstanceNormHandler"]

_PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")
_CLASSES: dict[int, type[nn.InstanceNorm1d] | type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]] = {
    1: nn.InstanceNorm1d,
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}


class InstanceNormParams(BaseParams):
    """As in `torch.nn.InstanceNorm2d`; `rank` is the number of spatial axes."""

    rank: Literal[1, 2, 3] = 2
    num_features: PositiveInt
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = False
    track_running_stats: bool = False


class InstanceNormHandler(ElementwiseHandler):
    """Every channel is normalised by itself, so channels pass."""

    Params = InstanceNormParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            tensors = named(**{name: getattr(original, name) for name in (*_PER_CHANNEL, "num_batches_tracked")})
            return with_flags_of(self.build(self.params(original), tensors), original)
        stats = {"running_mean": None, "running_var": None}
        bound = call.bind("input", **stats, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5)
        tracked = bound["running_mean"] is not None and bound["running_var"] is not None
        if tracked and bound["use_input_stats"]:
            raise Declined(f"{call.target} that updates statistics and does not use them")
        tensors = affine_tensors(call, bound)
        affine = bool(tensors)
        if tracked:
            tensors |= named(**{name: call.take(bound[name]) for name in stats})
            tensors["num_batches_tracked"] = tensors["running_mean"].new_zeros(()).long()
        shape = bound["input"].shape
        params = validated(
            call,
            InstanceNormParams,
            rank=len(shape) - 2,
            num_features=shape[1] if len(shape) > 1 else 1,
            eps=bound["eps"],
            momentum=bound["momentum"],
            affine=affine,
            track_running_stats=tracked,
        )
        return trainable_as(self.build(params, tensors), bound)

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        rank = next(rank for rank, kind in _CLASSES.items() if isinstance(one, kind))
        names = [name for name in InstanceNormParams.model_fields if name != "rank"]
        return InstanceNormParams(**{"rank": rank, **{name: getattr(one, name) for name in names}})

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = _CLASSES[params.rank](**params.model_dump(exclude={"rank"}), device="meta")
        assign_tensors(module, tensors)
        return module

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        axis = given.dim() - params.rank - 1
        ids.channels(ids.mixed(given, range(axis + 1, given.dim()), f"{self.spec.op} normalises over them"), axis)
        return given

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        params: Any = self.params(module)
        kept = inputs[0].axis(-1 - params.rank)
        tensors = {
            name: one[kept.to(one.device)] if name in _PER_CHANNEL else one for name, one in self.tensors(module).items()
        }
        return self.build(params.model_copy(update={"num_features": len(kept)}), tensors)
