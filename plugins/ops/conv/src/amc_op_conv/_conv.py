"""`vn.conv1d`, `vn.conv2d` and `vn.conv3d`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from amc_op_conv._channels import Amounts, ConvHandler, ConvParams, kept_weight, taken
from amc_op_conv._patches import ConvMap, output_size
from amc_plugins.handlers import Call, Declined, Kept, LinearMap, Shape, assign_tensors, resized, with_flags_of

__all__ = ["Conv1dHandler", "Conv2dHandler", "Conv3dHandler"]


class Conv2dParams(ConvParams):
    """As in `torch.nn.Conv2d`."""

    padding: Amounts | Literal["same", "valid"] = Field([0])
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"


class Conv1dParams(Conv2dParams):
    """As in `torch.nn.Conv1d`."""

    rank = 1


class Conv3dParams(Conv2dParams):
    """As in `torch.nn.Conv3d`."""

    rank = 3


class Conv2dHandler(ConvHandler):
    """Convolution with a weight (n, c / groups, ...)."""

    Params = Conv2dParams
    conv_class: ClassVar[type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = nn.Conv2d

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
                stride=bound["stride"],
                padding=bound["padding"],
                dilation=bound["dilation"],
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
            kernel_size=one.kernel_size,
            stride=one.stride,
            padding=one.padding,
            dilation=one.dilation,
            groups=one.groups,
            bias=one.bias is not None,
            padding_mode=one.padding_mode,
        )

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        # On the meta device initialisation costs nothing and draws no random numbers.
        module = self.conv_class(**params.model_dump(), device="meta")
        assign_tensors(module, tensors)
        return module

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        *batch, _ = inputs[0][: -self.rank]
        return [(*batch, params.out_channels, *output_size(params, inputs[0][-self.rank :]))]

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        return prod(outputs[0]) * int(params.in_channels // params.groups) * int(prod(params.kernel_size))

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        incoming, outgoing = inputs[0].axis(-1 - self.rank), outputs[0].axis(-1 - self.rank)
        weight, groups = kept_weight(one.weight.detach(), one.groups, outgoing, incoming)
        tensors = {"weight": weight}
        if one.bias is not None:
            tensors["bias"] = one.bias.detach()[outgoing.to(weight.device)]
        return resized(module, tensors, in_channels=len(incoming), out_channels=len(outgoing), groups=groups)

    def linear(self, module: nn.Module) -> LinearMap:
        tensors = self.tensors(module)
        return ConvMap(module, self.params(module), tensors["weight"], tensors.get("bias"))


class Conv1dHandler(Conv2dHandler):
    """1-D convolution of (N, C, L) or (C, L)."""

    rank = 1
    Params = Conv1dParams
    conv_class = nn.Conv1d


class Conv3dHandler(Conv2dHandler):
    """3-D convolution of (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3
    Params = Conv3dParams
    conv_class = nn.Conv3d
