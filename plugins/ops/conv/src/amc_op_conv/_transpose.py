"""`vn.conv_transpose1d`, `vn.conv_transpose2d` and `vn.conv_transpose3d`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar

from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from amc_op_conv._channels import Amounts, ConvHandler, ConvParams, kept_weight, taken
from amc_plugins.handlers import Call, Declined, Int, Kept, Ref, Shape, assign_tensors, with_flags_of

__all__ = [
    "ConvTranspose1dHandler",
    "ConvTranspose2dHandler",
    "ConvTranspose3dHandler",
    "SizedConvTranspose1d",
    "SizedConvTranspose2d",
    "SizedConvTranspose3d",
]


class SizedConvTranspose1d(nn.ConvTranspose1d):
    """A transposed convolution whose output size the network computes; it is called with `output_size=[L]`."""

    output_size: list[Int]


class SizedConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose output size the network computes; it is called with `output_size=[Ho, Wo]`."""

    output_size: list[Int]


class SizedConvTranspose3d(nn.ConvTranspose3d):
    """A transposed convolution whose output size the network computes; it is called with `output_size=[Do, Ho, Wo]`."""

    output_size: list[Int]


class ConvTranspose2dParams(ConvParams):
    """As in `torch.nn.ConvTranspose2d`. `output_size` has what the network computes when it runs."""

    spatial = ("kernel_size", "stride", "padding", "output_padding", "dilation")
    padding: Amounts = Field([0])
    output_padding: Amounts = Field([0])
    output_size: list[Int] | None = None


class ConvTranspose1dParams(ConvTranspose2dParams):
    """As in `torch.nn.ConvTranspose1d`."""

    rank = 1


class ConvTranspose3dParams(ConvTranspose2dParams):
    """As in `torch.nn.ConvTranspose3d`."""

    rank = 3


class ConvTranspose2dHandler(ConvHandler):
    """Transposed convolution with a weight (c, n / groups, ...)."""

    Params = ConvTranspose2dParams
    conv_class: ClassVar[type[nn.Module]] = nn.ConvTranspose2d
    sized_class: ClassVar[type[nn.Module]] = SizedConvTranspose2d

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
                **{name: bound[name] for name in ("stride", "padding", "output_padding", "dilation")},
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
            size = list(bound["output_size"])[-self.rank :]
            if any(isinstance(one, Ref) for one in size):
                params = params.model_copy(update={"output_size": size})
            else:
                without = params.model_copy(update={"output_padding": [0] * self.rank})
                plain = output_size(without, bound["input"].shape[-self.rank :])
                extra = [int(want) - have for want, have in zip(size, plain, strict=True)]
                params = params.model_copy(update={"output_padding": extra})
        tensors = {"weight": original.weight, "bias": original.bias}
        return with_flags_of(self.build(params, {name: one for name, one in tensors.items() if one is not None}), original)

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return self.Params(
            in_channels=one.in_channels,
            out_channels=one.out_channels,
            groups=one.groups,
            bias=one.bias is not None,
            output_size=getattr(one, "output_size", None),
            **{name: getattr(one, name) for name in self.Params.spatial},
        )

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        given = {name: getattr(params, name) for name in type(params).model_fields if name != "output_size"}
        # On the meta device initialisation costs nothing and draws no random numbers.
        if params.output_size is None:
            module = self.conv_class(**given, device="meta")
        else:
            module = self.sized_class(**given, device="meta")
            vars(module)["output_size"] = list(params.output_size)
        assign_tensors(module, tensors)
        return module

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        if params.output_size is not None:
            return None
        *batch, _ = inputs[0][: -self.rank]
        return [(*batch, params.out_channels, *output_size(params, inputs[0][-self.rank :]))]

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        return prod(inputs[0]) * int(params.out_channels // params.groups) * int(prod(params.kernel_size))

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        incoming, outgoing = inputs[0].axis(-1 - self.rank), outputs[0].axis(-1 - self.rank)
        weight, groups = kept_weight(one.weight.detach(), one.groups, incoming, outgoing)
        tensors = {"weight": weight}
        if one.bias is not None:
            tensors["bias"] = one.bias.detach()[outgoing.to(weight.device)]
        update = {"in_channels": len(incoming), "out_channels": len(outgoing), "groups": groups}
        return self.build(self.params(module).model_copy(update=update), tensors)


class ConvTranspose1dHandler(ConvTranspose2dHandler):
    """Transposed 1-D convolution of (N, C, L) or (C, L)."""

    rank = 1
    Params = ConvTranspose1dParams
    conv_class = nn.ConvTranspose1d
    sized_class = SizedConvTranspose1d


class ConvTranspose3dHandler(ConvTranspose2dHandler):
    """Transposed 3-D convolution of (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3
    Params = ConvTranspose3dParams
    conv_class = nn.ConvTranspose3d
    sized_class = SizedConvTranspose3d


def output_size(params: Any, size: Sequence[int]) -> list[int]:
    """The spatial size of a transposed convolution's output for an input of spatial `size`, (Ho, Wo) for (H, W)."""
    return [
        (length - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
        for length, stride, padding, dilation, kernel, extra in zip(
            size, params.stride, params.padding, params.dilation, params.kernel_size, params.output_padding, strict=True
        )
    ]
