"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    yield LayerHandlerSpec(
        name="linear",
        op="vn.linear",
        summary="fully connected layer on the last axis",
        api=(1, 1),
        examples="amc_op_linear._examples:examples",
        target="amc_op_linear._linear:LinearHandler",
        captures=("torch.nn.Linear", "torch.nn.functional.linear"),
    )
    yield LayerHandlerSpec(
        name="embedding",
        op="vn.embedding",
        summary="rows of a table, looked up by number",
        api=(1, 1),
        examples="amc_op_linear._examples:examples",
        target="amc_op_linear._embedding:EmbeddingHandler",
        captures=("torch.nn.Embedding", "torch.nn.functional.embedding", "torch.embedding"),
    )
