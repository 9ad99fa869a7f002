"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

_HANDLERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "max_pool2d": (
        "_pool:MaxPool2dHandler",
        "the largest entry of each window",
        (
            "torch.nn.MaxPool2d",
            "amc_op_pooling.MaxPool2d",
            "torch.nn.functional.max_pool2d",
            "torch.nn.functional.max_pool2d_with_indices",
            "torch.max_pool2d",
        ),
    ),
    "avg_pool2d": (
        "_pool:AvgPool2dHandler",
        "the mean of each window",
        ("torch.nn.AvgPool2d", "amc_op_pooling.AvgPool2d", "torch.nn.functional.avg_pool2d"),
    ),
    "adaptive_avg_pool2d": (
        "_pool:AdaptiveAvgPool2dHandler",
        "means of windows that give a chosen output size",
        ("torch.nn.AdaptiveAvgPool2d", "amc_op_pooling.AdaptiveAvgPool2d", "torch.nn.functional.adaptive_avg_pool2d"),
    ),
    "adaptive_max_pool2d": (
        "_pool:AdaptiveMaxPool2dHandler",
        "largest entries of windows that give a chosen output size",
        (
            "torch.nn.AdaptiveMaxPool2d",
            "amc_op_pooling.AdaptiveMaxPool2d",
            "torch.nn.functional.adaptive_max_pool2d",
            "torch.nn.functional.adaptive_max_pool2d_with_indices",
        ),
    ),
    "mean": (
        "_mean:MeanHandler",
        "the mean along axes, or of everything",
        ("amc_op_pooling.TensorMean", "torch.mean", "torch.Tensor.mean"),
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, captures) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name, op=f"vn.{name}", summary=summary, api=(1, 0), target=f"amc_op_pooling.{target}", captures=captures
        )
