"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

_HANDLERS = {
    "lstm": ("LSTMHandler", "long short-term memory", "amc_op_recurrent._modules.LSTM torch.nn.LSTM"),
    "gru": ("GRUHandler", "gated recurrent units", "amc_op_recurrent._modules.GRU torch.nn.GRU"),
    "rnn": ("RNNHandler", "simple recurrent layers", "amc_op_recurrent._modules.RNN torch.nn.RNN"),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, spellings) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            examples="amc_op_recurrent._examples:examples",
            target=f"amc_op_recurrent._handlers:{target}",
            captures=tuple(spellings.split()),
        )
