"""Recurrent layers whose states are arguments and results of their own, not nested tuples."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


class Recurrent(nn.Module):
    """A recurrent layer of torch: x (and initial states h, c) -> the sequence y and the final states."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        if len(states) > 1:
            y, final = self.layer(x, states)
        else:
            y, final = self.layer(x, *states)
        return (y, *final) if isinstance(final, tuple) else (y, final)


class LSTM(Recurrent):
    """`nn.LSTM`, giving y, h and c."""


class GRU(Recurrent):
    """`nn.GRU`, giving y and h."""


class RNN(Recurrent):
    """`nn.RNN`, giving y and h."""
