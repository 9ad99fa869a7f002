"""`PruningSampler` and its handler: capture, document, channels, shrinking, refusals."""

from __future__ import annotations

import amc_pruning
import pytest
import torch
import torch.nn.functional as F
from amc_pruning import PruningSampler
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, handler_for, insert_before, make_layer, profile
from amc_plugins.plugin import SettingsError
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Branch(nn.Module):
    """A residual block whose first convolution reads four of eight channels, the shortcut all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.sampler = PruningSampler(8, [1, 2, 5, 7])
        self.conv1, self.conv2 = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x + self.conv2(F.relu(self.conv1(self.sampler(x))))
        return self.head(x)


def captured() -> ReconstructedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return capture(Branch().eval(), torch.rand(2, 1, 6, 6), strict=True)


def test_it_is_captured_as_a_layer_of_its_own_and_survives_the_document() -> None:
    network = captured()
    (node,) = network.nodes_of("sampler")
    assert node.op == "vn.pruning_sampler"
    assert node.params == {"channels": 8, "index": [1, 2, 5, 7]}
    x = torch.rand(3, 1, 6, 6)
    rebuilt = assert_rebuilds(network, x)
    assert isinstance(rebuilt.layer("sampler"), PruningSampler)
    assert torch.equal(rebuilt(x), network(x))
    assert profile(network).row("sampler").macs == 0
    assert profile(network).row("sampler").output_shape == (1, 4, 6, 6)


def test_it_passes_channel_identity_on_by_position() -> None:
    channels = channel_map(captured())
    assert channels.inputs["conv1"].tolist() == channels.outputs["stem"][[1, 2, 5, 7]].tolist()
    # what only the shortcut reads, and what the sampled branch reads too, are groups of their own
    groups = {group.consumers: len(group) for group in channels.groups if "stem" in group.producers}
    assert groups == {("head",): 4, ("conv1", "head"): 4}


def test_masked_equals_shrunk_behind_it() -> None:
    network = captured()
    for seed in range(4):
        assert_masked_equals_shrunk(network, torch.rand(2, 1, 6, 6), seed=seed)
    channels = channel_map(network)
    smaller = channels.shrink(channels.outputs["stem"][[0, 2, 7]])
    assert smaller.layer("sampler").index.tolist() == [0, 3]  # 1 and 5 of the kept 1, 3, 4, 5, 6
    assert smaller.layer("sampler").channels == 5
    assert smaller.layer("conv1").in_channels == 2


def test_it_can_be_inserted_and_made_by_op_id() -> None:
    network = captured()
    made = make_layer("vn.pruning_sampler", {"channels": 3, "index": [2, 0]}, {})
    x = torch.rand(2, 3, 4)
    assert torch.equal(made(x), x[:, [2, 0]])
    assert handler_for("vn.pruning_sampler").shapes(handler_for("vn.pruning_sampler").params(made), [(2, 3, 4)]) == [(2, 2, 4)]
    head = network.layer("head")
    same = make_layer("vn.pruning_sampler", {"channels": 8, "index": list(range(8))}, {})
    insert_before(network, network.nodes_of("head")[0].name, 0, "vn.pruning_sampler", same, "picked")
    assert network.layer("head") is head
    assert network.nodes_of("picked")[0].op == "vn.pruning_sampler"


def test_positions_out_of_range_are_refused() -> None:
    for index in ([0, 3], [-1], [], [[0, 1]]):
        with pytest.raises(SettingsError, match="positions from 0 to 2"):
            PruningSampler(3, index)


def test_it_is_built_and_checked_where_tensors_have_no_entries() -> None:
    """Readers of files build layers on the meta device."""
    with torch.device("meta"):
        assert PruningSampler(3, [2, 0])(torch.empty(1, 3, 4)).shape == (1, 2, 4)
        with pytest.raises(SettingsError, match="positions from 0 to 2"):
            PruningSampler(3, [0, 3])


def test_the_source_spelling_is_the_same_class() -> None:
    assert amc_pruning.PrunningSampler is PruningSampler
    with pytest.raises(AttributeError, match="no attribute `Other`"):
        _ = amc_pruning.Other
