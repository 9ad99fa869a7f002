"""Emitters of recurrent layers: one ONNX node for each layer, both directions together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from amc_onnx_export._op import Emitter, Name, Op

__all__ = ["EMITTERS"]

_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where ONNX's gates stand in torch's: i o f c of i f g o, and z r h of r z n."""


def _recurrent(kind: str) -> Emitter:
    def emit(op: Op) -> list[str]:
        params = op.params
        if getattr(params, "proj_size", 0):
            op.refuse("with projected states")
        batched, wide = op.x.rank == 3, 1 + params.bidirectional
        x: Name = op.x
        if not batched:
            x = op.unsqueeze(x, 1)
        elif params.batch_first:
            x = op.add("Transpose", x, perm=[1, 0, 2])
        states: list[Name] = [one if batched else op.unsqueeze(one, 1) for one in op.inputs[1:]]
        finals: list[list[str]] = []
        for layer in range(params.num_layers):
            first = [op.slice(one, 0, wide * layer, wide * (layer + 1)) for one in states]
            inputs = [x, *_weights(op, layer, _ORDER[kind]), *(["", *first] if first else [])]
            sequence, *last = op.add_many(
                kind, *inputs, count=3 if kind == "LSTM" else 2, hidden_size=params.hidden_size, **_how(kind, params)
            )
            x = op.add("Reshape", op.add("Transpose", sequence, perm=[0, 2, 1, 3]), op.vector([0, 0, -1]))
            finals.append(last)
        if not batched:
            x = op.squeeze(x, 1)
        elif params.batch_first:
            x = op.add("Transpose", x, perm=[1, 0, 2])
        ends = [column[0] if len(column) == 1 else op.add("Concat", *column, axis=0) for column in zip(*finals, strict=True)]
        return [x if isinstance(x, str) else x.name, *(one if batched else op.squeeze(one, 1) for one in ends)]

    return emit


def _how(kind: str, params: Any) -> dict[str, Any]:
    """Attributes."""
    how: dict[str, Any] = {"direction": "bidirectional" if params.bidirectional else "forward"}
    if kind == "GRU":
        how["linear_before_reset"] = 1  # torch multiplies by the reset gate behind the matrix
    if kind == "RNN":
        how["activations"] = [params.nonlinearity.capitalize()] * (1 + params.bidirectional)
    return how


def _weights(op: Op, layer: int, order: Sequence[int]) -> list[str]:
    """The matrices (directions, gates * hidden, ...) and the biases of a layer, gates in ONNX's order."""

    def gates(name: str) -> torch.Tensor:
        parts = op.tensors[name].chunk(len(order))
        return torch.cat([parts[place] for place in order])

    ends = [f"_l{layer}", f"_l{layer}_reverse"][: 1 + op.params.bidirectional]
    found = []
    for kind in ("weight_ih", "weight_hh"):
        found.append(
            _stored(op, [f"layer.{kind}{end}" for end in ends], torch.stack([gates(f"layer.{kind}{e}") for e in ends]))
        )
    if op.params.bias:
        names = [[f"layer.{kind}{end}" for kind in ("bias_ih", "bias_hh")] for end in ends]
        biases = torch.stack([torch.cat([gates(name) for name in pair]) for pair in names])
        found.append(_stored(op, [name for pair in names for name in pair], biases))
    else:
        found.append("")
    return found


def _stored(op: Op, slots: Sequence[str], tensor: torch.Tensor) -> str:
    """Stored once for layers that share the slots' tensors."""
    names = tuple(op.node.tensors[slot] for slot in slots)
    return op.graph.store(tensor, f"{names[0]}.gates", (names, "gates"))


EMITTERS: dict[str, Emitter] = {"vn.lstm": _recurrent("LSTM"), "vn.gru": _recurrent("GRU"), "vn.rnn": _recurrent("RNN")}
