"""Pixel shuffle and its inverse: channels become pixels, pixels become channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.nn import functional as F

from amc_op_resize import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["PixelShuffleHandler", "PixelUnshuffleHandler"]


class PixelShuffleParams(Params):
    """r: the factor of height and width."""

    upscale_factor: int


class PixelUnshuffleParams(Params):
    """r: the divisor of height and width."""

    downscale_factor: int


class PixelShuffleHandler(LayerHandler):
    """The r * r channels of one output channel are tied: they go together or stay together."""

    Params = PixelShuffleParams
    module_class = _modules.PixelShuffle

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        return _modules.PixelShuffle(_factor(call, "upscale_factor"))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        laid_out = F.pixel_shuffle(_one_pixel(given, 1, ids), params.upscale_factor)
        return _per_channel(laid_out, ids)


class PixelUnshuffleHandler(LayerHandler):
    """Each input channel becomes r * r output channels, which share its fate."""

    Params = PixelUnshuffleParams
    module_class = _modules.PixelUnshuffle

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        return _modules.PixelUnshuffle(_factor(call, "downscale_factor"))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        laid_out = F.pixel_unshuffle(_one_pixel(given, params.downscale_factor, ids), params.downscale_factor)
        return _per_channel(laid_out, ids)


def _factor(call: Call, name: str) -> int:
    factor = call.bind("input", name)[name]
    if not isinstance(factor, int):
        raise Declined(f"{call.target} with the computed factor {factor!r}")
    return factor


def _one_pixel(given: Tensor, size: int, ids: ChannelIds) -> Tensor:
    """The ids of one sample, with height and width cut to `size`, where all have one id: enough to shuffle."""
    channel = given.dim() - 3
    for axis in range(given.dim()):
        if axis != channel and not ids.varies(given, axis):
            given = given.narrow(axis, 0, size if axis > channel else 1)
    return given


def _per_channel(laid_out: Tensor, ids: ChannelIds) -> Tensor:
    """One id per channel of the result; ids that came to lie in one channel are tied."""
    *_, height, width = laid_out.shape
    pixels = [laid_out[..., y : y + 1, x : x + 1] for y in range(height) for x in range(width)]
    return ids.tie(*pixels).expand(ids.output_shapes[0])
