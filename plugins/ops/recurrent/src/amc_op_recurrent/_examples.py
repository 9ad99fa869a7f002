"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["examples"]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Last(nn.Module):
    """The last entry of the sequence that a recurrent layer gives, for channels in front of it and behind it."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)[0]
        return y


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    kinds: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    x = random(4, 2, 6)
    return [
        (kinds[name](6, 5), x),
        (Last(kinds[name](6, 4, num_layers=2, batch_first=True, bidirectional=True)), x),
    ]
