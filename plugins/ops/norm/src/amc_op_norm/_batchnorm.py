"""`vn.batchnorm1d`, `vn.batchnorm2d` and `vn.batchnorm3d`: weight * (x - mean) / sqrt(var + eps) + bias per channel.

S. Ioffe and C. Szegedy, Batch Normalization, ICML 2015, algorithm 2 (inference) and 1 (training).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, PositiveInt, ValidationError
from torch import Tensor, nn

from amc_plugins.handlers import Call, ChannelIds, Declined, ElementwiseHandler, Kept, assign_tensors, resized, with_flags_of
from amc_plugins.handlers import Params as BaseParams

__all__ = ["BatchNorm1dHandler", "BatchNorm2dHandler", "BatchNorm3dHandler"]

_PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")


class BatchNorm2dHandler(ElementwiseHandler):
    """Batch normalisation of (N, C, H, W). Counts no MACs: the house counts those of convolutions and linear layers.

    A functional call records `training` as the literal it was; with running statistics it is taken for
    `training=self.training`, and the module follows the network's mode. Capture checks the record in eval mode.
    """

    class Params(BaseParams):
        num_features: PositiveInt
        eps: float = 1e-5
        momentum: float | None = 0.1
        affine: bool = True
        track_running_stats: bool = True

    norm_class: ClassVar[type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = nn.BatchNorm2d
    ranks: ClassVar[tuple[int, ...]] = (4,)

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            tensors = {name: getattr(original, name) for name in (*_PER_CHANNEL, "num_batches_tracked")}
            built = self.build(self.params(original), {name: one for name, one in tensors.items() if one is not None})
            return with_flags_of(built, original)
        return self._recorded(call)

    def _recorded(self, call: Call) -> nn.Module:
        if call.target == "torch.batch_norm":
            bound = call.bind(
                "input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn_enabled"
            )
        else:
            stats = ("running_mean", "running_var")
            bound = call.bind("input", *stats, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5)
        if len(bound["input"].shape) not in self.ranks:
            raise Declined(f"{call.target} of a tensor of shape {bound['input'].shape}")
        tracked = bound["running_mean"] is not None and bound["running_var"] is not None
        features = bound["input"].shape[1]
        tensors = {name: call.take(bound[name]) for name in _PER_CHANNEL if bound[name] is not None}
        affine = "weight" in tensors or "bias" in tensors
        made: dict[str, Tensor] = {name: one for name, one in tensors.items() if one is not None}
        if affine:
            made.setdefault("weight", torch.ones_like(next(iter(made.values()))))
            made.setdefault("bias", torch.zeros_like(made["weight"]))
        if tracked:
            made["num_batches_tracked"] = torch.zeros((), dtype=torch.long, device=made["running_mean"].device)
        try:
            params = self.Params(
                num_features=features, eps=bound["eps"], momentum=bound["momentum"], affine=affine, track_running_stats=tracked
            )
        except ValidationError as error:
            raise Declined(f"{call.target} with settings that the network computes: {error}") from error
        built = self.build(params, made)
        for name, parameter in built.named_parameters():
            parameter.requires_grad_(bound[name] is not None and bound[name].constant.requires_grad)
        return built

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return self.Params(
            num_features=one.num_features,
            eps=one.eps,
            momentum=one.momentum,
            affine=one.affine,
            track_running_stats=one.track_running_stats,
        )

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = self.norm_class(**params.model_dump(), device="meta")
        assign_tensors(module, tensors)
        return module

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.channels(inputs[0], 1)
        return inputs[0]

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        kept = inputs[0].axis(1)
        tensors = {
            name: one[kept.to(one.device)] if name in _PER_CHANNEL else one for name, one in self.tensors(module).items()
        }
        return resized(module, tensors, num_features=len(kept))


class BatchNorm1dHandler(BatchNorm2dHandler):
    """Batch normalisation of (N, C) or (N, C, L)."""

    norm_class = nn.BatchNorm1d
    ranks = (2, 3)


class BatchNorm3dHandler(BatchNorm2dHandler):
    """Batch normalisation of (N, C, D, H, W)."""

    norm_class = nn.BatchNorm3d
    ranks = (5,)
