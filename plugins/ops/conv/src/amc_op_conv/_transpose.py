"""`vn.conv_transpose2d`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from pydantic import BaseModel, Field, PositiveInt, ValidationError
from torch import Tensor, nn

from amc_op_conv._channels import Amounts, ConvHandler, Sizes, kept_weight, pair, taken
from amc_plugins.handlers import Call, Declined, Int, Kept, Ref, Shape, assign_tensors, with_flags_of
from amc_plugins.handlers import Params as BaseParams

__all__ = ["ConvTranspose2dHandler", "SizedConvTranspose2d"]


class SizedConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose output size the network computes; it is called with `output_size=[Ho, Wo]`."""

    output_size: list[Int]


class ConvTranspose2dHandler(ConvHandler):
    """Transposed 2-D convolution of (N, C, H, W) or (C, H, W) with a weight (c, n / groups, kh, kw)."""

    class Params(BaseParams):
        in_channels: PositiveInt
        out_channels: PositiveInt
        kernel_size: Sizes
        stride: Sizes = Field([1, 1])
        padding: Amounts = Field([0, 0])
        output_padding: Amounts = Field([0, 0])
        groups: PositiveInt = 1
        bias: bool = True
        dilation: Sizes = Field([1, 1])
        output_size: list[Int] | None = None

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._copied(call, call.original)
        bound = call.bind("input", "weight", bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)
        tensors = taken(call, bound)
        in_channels, out_group, *kernel = tensors["weight"].shape
        try:
            params = self.Params(
                in_channels=in_channels,
                out_channels=out_group * bound["groups"],
                kernel_size=kernel,
                groups=bound["groups"],
                bias="bias" in tensors,
                **{name: pair(bound[name]) for name in ("stride", "padding", "output_padding", "dilation")},
            )
        except (ValidationError, TypeError) as error:
            raise Declined(f"{call.target} with settings that the network computes: {error}") from error
        built = self.build(params, tensors)
        for name in tensors:
            built.get_parameter(name).requires_grad_(bound[name].constant.requires_grad)
        return built

    def _copied(self, call: Call, original: Any) -> nn.Module:
        bound = call.bind("input", output_size=None)
        params: Any = self.params(original)
        if bound["output_size"] is not None:
            size = list(bound["output_size"])[-2:]
            if any(isinstance(one, Ref) for one in size):
                params = params.model_copy(update={"output_size": size})
            else:
                plain = output_size(params.model_copy(update={"output_padding": [0, 0]}), bound["input"].shape[-2:])
                extra = [int(want) - have for want, have in zip(size, plain, strict=True)]
                params = params.model_copy(update={"output_padding": extra})
        tensors = {"weight": original.weight, "bias": original.bias}
        return with_flags_of(self.build(params, {name: one for name, one in tensors.items() if one is not None}), original)

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        pairs = {name: pair(getattr(one, name)) for name in ("kernel_size", "stride", "padding", "output_padding", "dilation")}
        return self.Params(
            in_channels=one.in_channels,
            out_channels=one.out_channels,
            groups=one.groups,
            bias=one.bias is not None,
            output_size=one.output_size if isinstance(one, SizedConvTranspose2d) else None,
            **pairs,
        )

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        given = {name: getattr(params, name) for name in type(params).model_fields if name != "output_size"}
        # On the meta device initialisation costs nothing and draws no random numbers.
        if params.output_size is None:
            module = nn.ConvTranspose2d(**given, device="meta")
        else:
            module = SizedConvTranspose2d(**given, device="meta")
            module.output_size = list(params.output_size)
        assign_tensors(module, tensors)
        return module

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        if params.output_size is not None:
            return None
        *batch, _, height, width = inputs[0]
        return [(*batch, params.out_channels, *output_size(params, (height, width)))]

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        return prod(inputs[0]) * int(params.out_channels // params.groups) * int(prod(params.kernel_size))

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        incoming, outgoing = inputs[0].axis(-3), outputs[0].axis(-3)
        weight, groups = kept_weight(one.weight.detach(), one.groups, incoming, outgoing)
        tensors = {"weight": weight}
        if one.bias is not None:
            tensors["bias"] = one.bias.detach()[outgoing.to(weight.device)]
        update = {"in_channels": len(incoming), "out_channels": len(outgoing), "groups": groups}
        return self.build(self.params(module).model_copy(update=update), tensors)


def output_size(params: Any, size: Sequence[int]) -> list[int]:
    """(Ho, Wo) of a transposed convolution on an input of `size` (H, W)."""
    return [
        (length - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
        for length, stride, padding, dilation, kernel, extra in zip(
            size, params.stride, params.padding, params.dilation, params.kernel_size, params.output_padding, strict=True
        )
    ]
