"""`vn.lstm`, `vn.gru`, `vn.rnn`: recurrent layers, whole.

S. Hochreiter and J. Schmidhuber, Long Short-Term Memory, Neural Computation 9, 1997; K. Cho et al., Learning Phrase
Representations using RNN Encoder-Decoder, EMNLP 2014.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from amc_op_recurrent._modules import GRU, LSTM, RNN, Recurrent
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params, Shape, Value, assign_tensors

__all__ = ["GRUHandler", "LSTMHandler", "RNNHandler"]


class RecurrentParams(Params):
    """As in `torch.nn.GRU`."""

    input_size: PositiveInt
    hidden_size: PositiveInt
    num_layers: PositiveInt = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = Field(default=0.0, ge=0.0, le=1.0)
    bidirectional: bool = False


class LSTMParams(RecurrentParams):
    """As in `torch.nn.LSTM`."""

    proj_size: NonNegativeInt = 0


class RNNParams(RecurrentParams):
    """As in `torch.nn.RNN`."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"


class _RecurrentHandler(LayerHandler):
    """Reads and makes channels that all stay: every step mixes them and hands them on to the next."""

    Params: ClassVar[type[BaseModel]] = RecurrentParams
    wrapper: ClassVar[type[Recurrent]]
    layer: ClassVar[type[nn.RNNBase]]
    gates: ClassVar[int]

    def module(self, call: Call) -> nn.Module:
        if isinstance(call.original, Recurrent):
            return copy.deepcopy(call.original)
        if not isinstance(call.original, self.layer):
            raise Declined(f"{call.target} outside its module")
        bound = call.bind("input", hx=None)
        states = bound["hx"] if isinstance(bound["hx"], list | tuple) else [bound["hx"]]
        if not isinstance(bound["input"], Value) or not all(isinstance(one, Value | None) for one in states):
            raise Declined(f"{call.target} of a packed sequence")
        return self.wrapper(copy.deepcopy(call.original)).train(call.original.training)

    def params(self, module: nn.Module) -> BaseModel:
        layer: Any = module.get_submodule("layer")
        return self.Params(**{name: getattr(layer, name) for name in self.Params.model_fields})

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = self.wrapper(self.layer(**params.model_dump(), device="meta"))
        assign_tensors(module, tensors)
        layer: Any = module.layer
        layer._init_flat_weights()  # it keeps a list of its weights beside them
        return module

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        projected = getattr(params, "proj_size", 0)
        made = projected or params.hidden_size
        directions = 1 + params.bidirectional
        steps, total = 1, 0
        for size in inputs[0][:-1]:
            steps *= size
        for layer in range(params.num_layers):
            read = params.input_size if layer == 0 else directions * made
            total += directions * params.hidden_size * (self.gates * (read + made) + projected)
        return steps * total

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        for one in inputs:
            ids.pin(one, f"{self.spec.op} hands them on from step to step")
        made = f"made by {self.spec.op}, which hands them on from step to step"
        return [ids.fixed(made, output) for output in range(len(ids.output_shapes))]


class LSTMHandler(_RecurrentHandler):
    """Gives the sequence, the last hidden and the last cell states."""

    Params = LSTMParams
    wrapper, layer, gates = LSTM, nn.LSTM, 4


class GRUHandler(_RecurrentHandler):
    """Gives the sequence and the last hidden states."""

    wrapper, layer, gates = GRU, nn.GRU, 3


class RNNHandler(_RecurrentHandler):
    """Gives the sequence and the last hidden states."""

    Params = RNNParams
    wrapper, layer, gates = RNN, nn.RNN, 1
