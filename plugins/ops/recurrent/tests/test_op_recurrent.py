"""Recurrent layers: recorded whole, kept, counted and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.flop_counter import FlopCounterMode

import amc_plugins as amc
from amc_plugins.graph import capture, channel_map, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Tagger(nn.Module):
    """Features, a recurrent layer, and a class for each step."""

    def __init__(self, kind: type[nn.RNNBase], **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.mix = nn.Linear(5, 12), nn.Linear(12, 6)
        self.recurrent = kind(6, 8, batch_first=True, **settings)
        width = self.recurrent.proj_size or 8
        self.head = nn.Linear(width * (2 if self.recurrent.bidirectional else 1), 7)

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, Any]:
        given = self.mix(self.embed(x).relu())
        y, final = self.recurrent(given, state if len(state) > 1 else state[0]) if state else self.recurrent(given)
        return self.head(y), final


# said by torch where oneDNN has no projections
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")

LAYERS: list[tuple[type[nn.RNNBase], dict[str, Any]]] = [
    (nn.LSTM, {}),
    (nn.LSTM, {"num_layers": 2, "bidirectional": True, "bias": False}),
    (nn.LSTM, {"proj_size": 3, "num_layers": 2}),
    (nn.GRU, {"num_layers": 2, "dropout": 0.25}),
    (nn.GRU, {"bidirectional": True}),
    (nn.RNN, {"nonlinearity": "relu"}),
]


def sequence(batch: int = 2, steps: int = 4) -> Tensor:
    return torch.randn(batch, steps, 5, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize(("kind", "settings"), LAYERS)
def test_recorded_whole(kind: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    model = Tagger(kind, **settings).eval()
    network = capture(model, sequence(), strict=True)
    name = f"vn.{kind.__name__.lower()}"
    assert [node.op for node in network.graph.nodes] == ["vn.linear", "vn.relu", "vn.linear", name, "vn.linear"]
    assert network.node("recurrent").params.items() >= settings.items()
    network.save_to_json(tmp_path / "net.json")
    for one in (network, amc.load(tmp_path / "net.json"), capture(network, sequence())):
        for x in (sequence(3), sequence(2, 9)):
            for given, expected in zip(flat(one.eval()(x)), flat(model(x)), strict=True):
                assert torch.equal(given, expected)
    assert_rebuilds(network, sequence())


def flat(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [one for item in outputs for one in flat(item)]


@pytest.mark.parametrize(("kind", "settings"), [(nn.LSTM, {}), (nn.GRU, {}), (nn.RNN, {})])
def test_initial_states_are_inputs(kind: Any, settings: dict[str, Any]) -> None:
    model = Tagger(kind, **settings).eval()
    state = [torch.randn(1, 2, 8) for _ in range(2 if kind is nn.LSTM else 1)]
    network = capture(model, sequence(), *state, strict=True)
    assert len(network.node("recurrent").inputs) == 1 + len(state)
    again = [one * 2 for one in state]
    for given, expected in zip(flat(network(sequence(), *again)), flat(model(sequence(), *again)), strict=True):
        assert torch.equal(given, expected)


def test_channels_stop_there_and_others_do_not() -> None:
    network = capture(Tagger(nn.LSTM, bidirectional=True).eval(), sequence(), strict=True)
    groups = {group.name: group for group in channel_map(network).groups}
    assert not groups["embed"].pinned and "hands them on from step to step" in groups["mix"].pinned[0]
    smaller = assert_masked_equals_shrunk(network, sequence())
    assert smaller.layer("mix").get_parameter("weight").shape == (6, 6)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (nn.LSTM, {"num_layers": 2}),
        (nn.GRU, {"bidirectional": True, "num_layers": 2}),
        (nn.RNN, {}),
        (nn.LSTM, {"proj_size": 3}),
    ],
)
def test_macs_are_those_of_the_cells(kind: Any, settings: dict[str, Any]) -> None:
    """Against torch's counter on the products of each step, written out with the layer's own weights."""
    layer = kind(6, 8, bias=False, **settings)
    network = capture(nn.Sequential(layer).eval(), torch.randn(5, 3, 6), strict=True)
    steps, batch = 5, 3
    with FlopCounterMode(display=False) as counter:
        for weights in layer.all_weights:
            for weight in weights:
                for _ in range(steps):
                    torch.zeros(batch, weight.shape[1]) @ weight.detach().T
    assert profile(network, torch.randn(5, 3, 6)).total_macs == counter.get_total_flops() // 2 > 0


def test_packed_sequences_are_opaque() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(5, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, torch.tensor([4, 3]), batch_first=True)
            y: Tensor = pad_packed_sequence(self.layer(packed)[0], batch_first=True)[0]
            return y * 2

    model = Packed().eval()
    network = capture(model, sequence())
    assert "torch.nn.modules.rnn.GRU of a packed sequence" in network.graph.metadata["opaque:layer"]
    assert torch.equal(network(sequence() * 2), model(sequence() * 2))
