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
    "grid_sample": (
        "_sample:GridSampleHandler",
        "pixels at computed places",
        ("amc_op_resize.GridSample", "torch.nn.functional.grid_sample"),
    ),
    "affine_grid": (
        "_sample:AffineGridHandler",
        "the places of an affine map",
        ("amc_op_resize.AffineGrid", "torch.nn.functional.affine_grid"),
    ),
    "unfold": (
        "_patches:UnfoldHandler",
        "patches as columns",
        ("torch.nn.Unfold", "torch.nn.functional.unfold"),
    ),
    "fold": (
        "_patches:FoldHandler",
        "columns as patches, added up",
        ("torch.nn.Fold", "amc_op_resize.Fold", "torch.nn.functional.fold"),
    ),
    "channel_shuffle": (
        "_patches:ChannelShuffleHandler",
        "channels of groups in turn",
        (
            "torch.nn.ChannelShuffle",
            "amc_op_resize.ChannelShuffle",
            "torch.nn.functional.channel_shuffle",
            "torch.channel_shuffle",
            "torch.nn.functional.native_channel_shuffle",
        ),
    ),
    "pad": (
        "_pad:PadHandler",
        "padding, or cropping by a negative amount",
        (
            *(
                f"torch.nn.{kind}Pad{rank}d"
                for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular")
                for rank in (1, 2, 3)
            ),
            "amc_op_resize.Pad",
            "torch.nn.functional.pad",
        ),
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, captures) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            target=f"amc_op_resize.{target}",
            captures=captures,
            examples="amc_op_resize._examples:examples",
        )
