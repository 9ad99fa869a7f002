"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for rank in (1, 2, 3):
        yield LayerHandlerSpec(
            name=f"conv{rank}d",
            op=f"vn.conv{rank}d",
            summary=f"{rank}-D convolution: dense, grouped, depthwise",
            api=(1, 1),
            examples="amc_op_conv._examples:examples",
            target=f"amc_op_conv._conv:Conv{rank}dHandler",
            captures=(f"torch.nn.Conv{rank}d", f"torch.nn.functional.conv{rank}d", f"torch.conv{rank}d"),
        )
        yield LayerHandlerSpec(
            name=f"conv_transpose{rank}d",
            op=f"vn.conv_transpose{rank}d",
            summary=f"transposed {rank}-D convolution: dense, grouped, depthwise",
            api=(1, 1),
            examples="amc_op_conv._examples:examples",
            target=f"amc_op_conv._transpose:ConvTranspose{rank}dHandler",
            captures=(
                f"torch.nn.ConvTranspose{rank}d",
                f"torch.nn.functional.conv_transpose{rank}d",
                f"torch.conv_transpose{rank}d",
            ),
        )
