"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    yield LayerHandlerSpec(
        name="batchnorm2d",
        op="vn.batchnorm2d",
        summary="batch normalisation of (N, C, H, W)",
        api=(1, 0),
        target="amc_op_norm._batchnorm:BatchNorm2dHandler",
        captures=("torch.nn.BatchNorm2d", "torch.nn.functional.batch_norm", "torch.batch_norm"),
    )
    yield LayerHandlerSpec(
        name="batchnorm1d",
        op="vn.batchnorm1d",
        summary="batch normalisation of (N, C) or (N, C, L)",
        api=(1, 0),
        target="amc_op_norm._batchnorm:BatchNorm1dHandler",
        captures=("torch.nn.BatchNorm1d",),
    )
