"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

_HANDLERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "interpolate": (
        "_interpolate:InterpolateHandler",
        "resizing of images to a size or by a factor",
        (
            "torch.nn.Upsample",
            "torch.nn.UpsamplingNearest2d",
            "torch.nn.UpsamplingBilinear2d",
            "amc_op_resize.Interpolate",
            "torch.nn.functional.interpolate",
            "torch.nn.functional.upsample",
            "torch.nn.functional.upsample_nearest",
            "torch.nn.functional.upsample_bilinear",
        ),
    ),
    "pixel_shuffle": (
        "_shuffle:PixelShuffleHandler",
        "groups of r * r channels become r times the height and width",
        (
            "torch.nn.PixelShuffle",
            "amc_op_resize.PixelShuffle",
            "torch.nn.functional.pixel_shuffle",
            "torch.pixel_shuffle",
        ),
    ),
    "pixel_unshuffle": (
        "_shuffle:PixelUnshuffleHandler",
        "r * r neighbouring pixels become channels",
        (
            "torch.nn.PixelUnshuffle",
            "amc_op_resize.PixelUnshuffle",
            "torch.nn.functional.pixel_unshuffle",
            "torch.pixel_unshuffle",
        ),
    ),
    "pad": (
        "_pad:PadHandler",
        "padding, or cropping by a negative amount",
        (
            "torch.nn.ZeroPad2d",
            "torch.nn.ConstantPad2d",
            "torch.nn.ReflectionPad2d",
            "torch.nn.ReplicationPad2d",
            "torch.nn.CircularPad2d",
            "amc_op_resize.Pad",
            "torch.nn.functional.pad",
        ),
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, captures) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name, op=f"vn.{name}", summary=summary, api=(1, 0), target=f"amc_op_resize.{target}", captures=captures
        )
