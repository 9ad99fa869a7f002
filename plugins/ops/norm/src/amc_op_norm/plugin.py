"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

_PLACES = {"nn": "torch.nn", "F": "torch.nn.functional", "torch": "torch", "own": "amc_op_norm"}

# name: target, summary, spellings
_HANDLERS = {
    "batchnorm1d": ("_batchnorm:BatchNorm1dHandler", "batch normalisation of (N, C) or (N, C, L)", "nn.BatchNorm1d"),
    "batchnorm2d": (
        "_batchnorm:BatchNorm2dHandler",
        "batch normalisation of (N, C, H, W)",
        "nn.BatchNorm2d F.batch_norm torch.batch_norm",
    ),
    "batchnorm3d": ("_batchnorm:BatchNorm3dHandler", "batch normalisation of (N, C, D, H, W)", "nn.BatchNorm3d"),
    "instance_norm": (
        "_instance:InstanceNormHandler",
        "each channel of each sample normalised by itself",
        "nn.InstanceNorm1d nn.InstanceNorm2d nn.InstanceNorm3d F.instance_norm",
    ),
    "group_norm": (
        "_group:GroupNormHandler",
        "groups of channels of each sample normalised",
        "nn.GroupNorm F.group_norm torch.group_norm",
    ),
    "layer_norm": (
        "_layer:LayerNormHandler",
        "the last axes of each sample normalised",
        "nn.LayerNorm own.LayerNorm F.layer_norm torch.layer_norm",
    ),
    "rms_norm": (
        "_layer:RMSNormHandler",
        "the last axes of each sample divided by their root mean square",
        "nn.RMSNorm own.RMSNorm F.rms_norm torch.rms_norm",
    ),
    "normalize": ("_normalize:NormalizeHandler", "an axis divided by its norm", "own.Normalize F.normalize"),
    "local_response_norm": (
        "_normalize:LocalResponseNormHandler",
        "channels divided by what their neighbours are",
        "nn.LocalResponseNorm F.local_response_norm",
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, spellings) in _HANDLERS.items():
        places = (spelling.partition(".") for spelling in spellings.split())
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            examples="amc_op_norm._examples:examples",
            target=f"amc_op_norm.{target}",
            captures=tuple(f"{_PLACES[place]}.{rest}" for place, _, rest in places),
        )
