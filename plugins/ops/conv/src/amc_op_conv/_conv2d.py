"""`vn.conv2d`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

from pydantic import BaseModel, Field, PositiveInt, ValidationError
from torch import Tensor, nn

from amc_op_conv._channels import Amounts, ConvHandler, Sizes, kept_weight, pair, taken
from amc_op_conv._patches import ConvMap, output_size
from amc_plugins.handlers import Call, Declined, Kept, LinearMap, Shape, assign_tensors, with_flags_of
from amc_plugins.handlers import Params as BaseParams

__all__ = ["Conv2dHandler"]


class Conv2dHandler(ConvHandler):
    """2-D convolution of (N, C, H, W) or (C, H, W) with a weight (n, c / groups, kh, kw)."""

    class Params(BaseParams):
        in_channels: PositiveInt
        out_channels: PositiveInt
        kernel_size: Sizes
        stride: Sizes = Field([1, 1])
        padding: Amounts | Literal["same", "valid"] = Field([0, 0])
        dilation: Sizes = Field([1, 1])
        groups: PositiveInt = 1
        bias: bool = True
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            tensors = {"weight": original.weight, "bias": original.bias}
            built = self.build(self.params(original), {name: one for name, one in tensors.items() if one is not None})
            return with_flags_of(built, original)
        bound = call.bind("input", "weight", bias=None, stride=1, padding=0, dilation=1, groups=1)
        tensors = taken(call, bound)
        out_channels, in_group, *kernel = tensors["weight"].shape
        try:
            params = self.Params(
                in_channels=in_group * bound["groups"],
                out_channels=out_channels,
                kernel_size=kernel,
                stride=pair(bound["stride"]),
                padding=_padding(bound["padding"]),
                dilation=pair(bound["dilation"]),
                groups=bound["groups"],
                bias="bias" in tensors,
            )
        except (ValidationError, TypeError) as error:
            raise Declined(f"{call.target} with settings that the network computes: {error}") from error
        built = self.build(params, tensors)
        for name in tensors:
            built.get_parameter(name).requires_grad_(bound[name].constant.requires_grad)
        return built

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return self.Params(
            in_channels=one.in_channels,
            out_channels=one.out_channels,
            kernel_size=pair(one.kernel_size),
            stride=pair(one.stride),
            padding=_padding(one.padding),
            dilation=pair(one.dilation),
            groups=one.groups,
            bias=one.bias is not None,
            padding_mode=one.padding_mode,
        )

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        # On the meta device initialisation costs nothing and draws no random numbers.
        module = nn.Conv2d(**params.model_dump(), device="meta")
        assign_tensors(module, tensors)
        return module

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        *batch, _, height, width = inputs[0]
        return [(*batch, params.out_channels, *output_size(params, (height, width)))]

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        return prod(outputs[0]) * int(params.in_channels // params.groups) * int(prod(params.kernel_size))

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        incoming, outgoing = inputs[0].axis(-3), outputs[0].axis(-3)
        weight, groups = kept_weight(one.weight.detach(), one.groups, outgoing, incoming)
        tensors = {"weight": weight}
        if one.bias is not None:
            tensors["bias"] = one.bias.detach()[outgoing.to(weight.device)]
        update = {"in_channels": len(incoming), "out_channels": len(outgoing), "groups": groups}
        return self.build(self.params(module).model_copy(update=update), tensors)

    def linear(self, module: nn.Module) -> LinearMap:
        tensors = self.tensors(module)
        return ConvMap(self.params(module), tensors["weight"], tensors.get("bias"), self.build)


def _padding(amounts: Any) -> Any:
    return amounts if isinstance(amounts, str) else pair(amounts)
