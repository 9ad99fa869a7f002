"""Declares the handlers of the layers in `layers.py`. Free of torch: it is imported by listings."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl, transparent

_HANDLERS = {
    "layer_scale": ("LayerScale", "a trained scale per channel"),
    "response_norm": ("ResponseNorm", "channels against their mean response over the map"),
    "star_relu": ("StarReLU", "scale * relu(x) ** 2 + bias"),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (layer, summary) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"amc_op_convnext.{name}",
            summary=summary,
            api=(1, 1),
            target=f"amc_op_convnext._handlers:{layer}Handler",
            captures=(f"amc_op_convnext.layers.{layer}",),
            examples="amc_op_convnext._examples:examples",
        )
    yield transparent("amc_op_convnext.layers:DropPath")
