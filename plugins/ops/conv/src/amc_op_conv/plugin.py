"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    yield LayerHandlerSpec(
        name="conv2d",
        op="vn.conv2d",
        summary="2-D convolution: dense, grouped, depthwise",
        api=(1, 0),
        target="amc_op_conv._conv2d:Conv2dHandler",
        captures=("torch.nn.Conv2d", "torch.nn.functional.conv2d", "torch.conv2d"),
    )
    yield LayerHandlerSpec(
        name="conv_transpose2d",
        op="vn.conv_transpose2d",
        summary="transposed 2-D convolution: dense, grouped, depthwise",
        api=(1, 0),
        target="amc_op_conv._transpose:ConvTranspose2dHandler",
        captures=("torch.nn.ConvTranspose2d", "torch.nn.functional.conv_transpose2d", "torch.conv_transpose2d"),
    )
