"""`vn.layer_norm`, `vn.rms_norm`: the last axes of each sample divided by their standard deviation or root mean square.

J. L. Ba, J. R. Kiros and G. E. Hinton, Layer Normalization, arXiv:1607.06450, equation 4;
B. Zhang and R. Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019, equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from amc_op_norm._calls import affine_tensors, named, trainable_as, validated
from amc_plugins.handlers import (
    Call,
    ChannelIds,
    Declined,
    ElementwiseHandler,
    Int,
    assign_tensors,
    with_flags_of,
)
from amc_plugins.handlers import Params as BaseParams

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["LayerNorm", "LayerNormHandler", "RMSNorm", "RMSNormHandler"]


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm`; the keyword of a call replaces the attribute: sizes that are computed when the network runs."""

    def forward(self, input: Tensor, *, normalized_shape: Any = None) -> Tensor:
        shape = self.normalized_shape if normalized_shape is None else normalized_shape
        return F.layer_norm(input, shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """`nn.RMSNorm`; the keyword of a call replaces the attribute: sizes that are computed when the network runs."""

    def forward(self, input: Tensor, *, normalized_shape: Any = None) -> Tensor:
        shape = self.normalized_shape if normalized_shape is None else normalized_shape
        return F.rms_norm(input, shape, self.weight, self.eps)


class LayerNormParams(BaseParams):
    """As in `torch.nn.LayerNorm`. Sizes are computed only where there is no weight."""

    normalized_shape: list[Int]
    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True


class RMSNormParams(BaseParams):
    """As in `torch.nn.RMSNorm`."""

    normalized_shape: list[Int]
    eps: float | None = None
    elementwise_affine: bool = True


class _LastAxesHandler(ElementwiseHandler):
    """Channels along the last axes are pinned: each output depends on all of them. Those on other axes pass."""

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        axes = range(given.dim() - len(params.normalized_shape), given.dim())
        ids.mixed(given, axes, f"{self.spec.op} normalises over channels (each output depends on all of them)")
        return given


class LayerNormHandler(_LastAxesHandler):
    """weight * (x - mean) / sqrt(var + eps) + bias over the last axes."""

    Params = LayerNormParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            tensors = named(weight=original.weight, bias=original.bias)
            return with_flags_of(self.build(self.params(original), tensors), original)
        rest = {"cudnn_enable": True} if call.target == "torch.layer_norm" else {}
        bound = call.bind("input", "normalized_shape", weight=None, bias=None, eps=1e-5, **rest)
        tensors = affine_tensors(call, bound)
        if bound["bias"] is None:
            tensors.pop("bias", None)
        params = validated(
            call,
            LayerNormParams,
            normalized_shape=_sizes(bound["normalized_shape"], tensors),
            eps=bound["eps"],
            elementwise_affine=bool(tensors),
            bias="bias" in tensors,
        )
        return trainable_as(self.build(params, tensors), bound)

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return LayerNormParams(
            normalized_shape=list(one.normalized_shape),
            eps=one.eps,
            elementwise_affine=one.elementwise_affine,
            bias=one.bias is not None,
        )

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        sizes: Any = params.normalized_shape
        literal = sizes if params.elementwise_affine else [1] * len(sizes)
        module = LayerNorm(literal, params.eps, params.elementwise_affine, params.bias, device="meta")
        module.normalized_shape = tuple(sizes)
        assign_tensors(module, tensors)
        return module


class RMSNormHandler(_LastAxesHandler):
    """weight * x / sqrt(mean(x * x) + eps) over the last axes."""

    Params = RMSNormParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            return with_flags_of(self.build(self.params(original), named(weight=original.weight)), original)
        bound = call.bind("input", "normalized_shape", weight=None, eps=None)
        tensors = named(weight=call.take(bound["weight"]))
        sizes = _sizes(bound["normalized_shape"], tensors)
        if not isinstance(bound["eps"], int | float | None):
            raise Declined(f"{call.target} with {bound['eps']!r} for `eps`")
        params = validated(call, RMSNormParams, normalized_shape=sizes, eps=bound["eps"], elementwise_affine=bool(tensors))
        return trainable_as(self.build(params, tensors), bound)

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        sizes = list(one.normalized_shape)
        return RMSNormParams(normalized_shape=sizes, eps=one.eps, elementwise_affine=one.elementwise_affine)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        sizes: Any = params.normalized_shape
        literal = sizes if params.elementwise_affine else [1] * len(sizes)
        module = RMSNorm(literal, params.eps, params.elementwise_affine, device="meta")
        module.normalized_shape = tuple(sizes)
        assign_tensors(module, tensors)
        return module


def _sizes(given: Any, tensors: Mapping[str, Tensor]) -> list[Any]:
    """The normalised axes' sizes: those of the weight, where there is one."""
    for tensor in tensors.values():
        return list(tensor.shape)
    return list(given) if isinstance(given, list | tuple) else [given]
