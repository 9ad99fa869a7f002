"""Random networks: recorded bit by bit, rebuilt from their documents, and equal to their masked form when they shrink.

`make test` runs the profile `quick` of conftest.py, `make fuzz` the profile `long`.
"""

from __future__ import annotations

import torch
from hypothesis import given, note
from torch import nn

from amc_plugins.core.shapes import run_shapes
from amc_plugins.core.structure import tensors_in
from amc_plugins.graph import ShrinkCost, capture, channel_map, profile, shapes
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds, random_removal
from tests.fuzz_networks import networks


@given(networks())
def test_random_networks(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 6, 8, generator=generator)
    network = capture(model, x, strict=True)
    other = torch.randn(3, 3, 6, 8, generator=generator)
    with torch.no_grad():
        for mine, theirs in zip(tensors_in(network(other)), tensors_in(model(other)), strict=True):
            assert torch.equal(mine, theirs)
    assert_rebuilds(network, x)
    assert shapes(network, x) == run_shapes(network, x)

    channels = channel_map(network)
    cost = ShrinkCost(network, channels)
    free = [group for group in channels.groups if not group.pinned]
    removals = [random_removal(channels, share=share, seed=seed) for seed, share in enumerate((0.3, 0.6, 1.0))]
    removals += [group.ids[-1:] for group in free if len(group) > 1][:2]
    for removed in removals:
        note(f"removed {removed.tolist()} of {[(group.name, group.ids.tolist()) for group in free]}")
        # three samples: the channel map is made for two, which must not become part of the network
        smaller = assert_masked_equals_shrunk(network, other, removed=removed)
        gone = torch.zeros(len(channels._group_index), dtype=torch.bool)
        gone[removed] = True
        kept = {group.name: len(group) - int(gone[group.ids].sum()) for group in free}
        assert cost.macs(kept) == profile(smaller).total_macs
        assert_rebuilds(smaller, x.double())
