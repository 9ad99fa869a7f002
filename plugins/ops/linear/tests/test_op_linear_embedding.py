"""Embeddings: spellings, documents, channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.graph import capture, channel_map, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Text(nn.Module):
    """Word and position embeddings, and a layer on their sum."""

    def __init__(self, look_up: Callable[[Any, Tensor], Tensor], **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.positions = nn.Embedding(11, 8, **settings), nn.Parameter(torch.rand(1, 5, 8))
        self.look_up = look_up
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.look_up(self, x) + self.positions))


def words() -> Tensor:
    return torch.randint(0, 11, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("look_up", "settings", "padding"),
    [
        (lambda n, x: n.words(x), {}, None),
        (lambda n, x: n.words(x), {"padding_idx": 2}, 2),
        (lambda n, x: F.embedding(x, n.words.weight), {}, None),
        (lambda n, x: F.embedding(input=x, weight=n.words.weight, padding_idx=-1), {}, 10),
    ],
)
def test_tables(look_up: Any, settings: dict[str, Any], padding: int | None) -> None:
    for needed in ("amc_op_arithmetic", "amc_op_activation"):
        pytest.importorskip(needed)
    network = capture(Text(look_up, **settings), words(), strict=True)
    assert_rebuilds(network, words())
    node = next(node for node in network.graph.nodes if node.op == "vn.embedding")
    assert node.params == {"num_embeddings": 11, "embedding_dim": 8, "padding_idx": padding}
    assert profile(network, words()).total_macs == 2 * 5 * 8 * 3
    (group,) = (group for group in channel_map(network).groups if not group.pinned)
    assert group.producers == (node.layer,) and group.consumers == ("last",) and len(group) == 8
    smaller = assert_masked_equals_shrunk(network, words())
    assert smaller.layer(node.layer).weight.shape == (11, 4)
    assert_rebuilds(smaller, words())


@pytest.mark.parametrize("settings", [{"max_norm": 1.0}, {"sparse": True}])
def test_variants_that_are_declined_still_run(settings: dict[str, Any]) -> None:
    network = capture(Text(lambda n, x: n.words(x), **settings), words())
    assert "opaque" in [node.op for node in network.graph.nodes]


def test_a_layer_over_tokens_pins_the_channels_beside_them() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.tokens1, self.tokens2 = nn.Conv1d(3, 8, 1), nn.Linear(5, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.tokens2(self.tokens1(self.first(x)))

    pytest.importorskip("amc_op_conv")
    x = torch.rand(2, 3, 5)
    network = capture(Mixed(), x, strict=True)
    channels = channel_map(network)
    assert any("vn.linear runs along another axis than theirs" in why for why in channels.group("first").pinned)
    assert len(channels.group("tokens1")) == 6 and not channels.group("tokens1").pinned
    assert_masked_equals_shrunk(network, x)
