"""`vn.linear`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from pydantic import BaseModel, PositiveInt
from torch import Tensor, nn

from amc_plugins.handlers import (
    Call,
    ChannelIds,
    Declined,
    Kept,
    LayerHandler,
    LinearMap,
    Shape,
    assign_tensors,
    with_flags_of,
)
from amc_plugins.handlers import Params as BaseParams

__all__ = ["LinearHandler", "RowsMap"]


class LinearHandler(LayerHandler):
    """y = x @ weight.T + bias on the last axis of (..., in_features), with a weight (out_features, in_features)."""

    class Params(BaseParams):
        in_features: PositiveInt
        out_features: PositiveInt
        bias: bool = True

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            return with_flags_of(_linear(original.weight, original.bias), original)
        bound = call.bind("input", "weight", bias=None)
        weight, bias = call.take(bound["weight"]), call.take(bound["bias"])
        if weight is None or weight.dim() != 2:
            raise Declined(f"{call.target} with a weight that is no matrix")
        module = _linear(weight, bias)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(bound[name].constant.requires_grad)
        return module

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return self.Params(in_features=one.in_features, out_features=one.out_features, bias=one.bias is not None)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        # On the meta device initialisation costs nothing and draws no random numbers.
        module = nn.Linear(params.in_features, params.out_features, params.bias, device="meta")
        assign_tensors(module, tensors)
        return module

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        return [(*inputs[0][:-1], params.out_features)]

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        return prod(outputs[0]) * int(params.in_features)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        ids.channels(ids.mixed(given, range(given.dim() - 1), f"{self.spec.op} runs along another axis than theirs"), -1)
        return ids.new(params.out_features, axis=-1)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        weight, bias = module.get_parameter("weight").detach(), self.tensors(module).get("bias")
        if inputs[0].restricts(-1):
            weight = weight.index_select(1, inputs[0].axis(-1).to(weight.device))
        if outputs[0].restricts(-1):
            outgoing = outputs[0].axis(-1).to(weight.device)
            weight, bias = weight.index_select(0, outgoing), None if bias is None else bias.index_select(0, outgoing)
        return _linear(weight, bias)

    def linear(self, module: nn.Module) -> LinearMap:
        return RowsMap(module.get_parameter("weight").detach(), self.tensors(module).get("bias"))


class RowsMap(LinearMap):
    """`response = weight @ row + bias`. Positions count through all leading axes, the first of which is the sample."""

    taps = 1
    groups = 1
    input_axis = -1

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.out_channels, self.in_channels = weight.shape
        self.weight = weight
        self.bias = bias

    def positions(self, output: Shape, per_sample: int | None, generator: torch.Generator) -> Tensor:
        """Distinct within a sample, ascending, on the generator's device; all when a sample has no more than `per_sample`."""
        samples, size = prod(output[:-1][:1]), prod(output[1:-1])
        if per_sample is None or per_sample >= size:
            return torch.arange(samples * size, device=generator.device)
        keys = torch.rand(samples, size, generator=generator, device=generator.device)
        chosen = keys.topk(per_sample, dim=1).indices.sort(dim=1).values
        return (chosen + size * torch.arange(samples, device=generator.device)[:, None]).flatten()

    def patches(self, x: Tensor, positions: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1])[positions.to(x.device)]

    def responses(self, y: Tensor, positions: Tensor) -> Tensor:
        return y.reshape(-1, y.shape[-1])[positions.to(y.device)]

    def rebuilt(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        return _linear(weight, bias)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    out_features, in_features = weight.shape
    module = nn.Linear(in_features, out_features, bias is not None, device="meta")
    assign_tensors(module, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return module
