"""Layers of ConvNeXt: the conformance checks, and a block whose inner channels are pruned."""

from __future__ import annotations

import amc_plugins as amc
import pytest
import torch
from amc_plugins.testing import Check, assert_masked_equals_shrunk, plugin_checks
from torch import Tensor, nn

from amc_op_convnext.layers import DropPath, LayerScale, ResponseNorm, StarReLU

CHECKS = [
    check
    for name in ("layer_scale", "response_norm", "star_relu", "droppath")
    for check in plugin_checks(name, kind="layer_handlers")
]


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(check: Check) -> None:
    check()


class Block(nn.Module):
    """A block of ConvNeXt V2, with the activation of MetaFormer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.up = nn.Conv2d(channels, 3 * channels, 1)
        self.activation = StarReLU()
        self.norm = ResponseNorm(3 * channels)
        self.down = nn.Conv2d(3 * channels, channels, 1)
        self.scale = LayerScale(channels, 0.5)
        self.drop = DropPath(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.scale(self.down(self.norm(self.activation(self.up(self.depthwise(x)))))))


def network() -> amc.ReconstructedNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 1), Block(4), nn.Conv2d(4, 2, 1)).eval()
        nn.init.normal_(model[1].norm.gamma)
        nn.init.normal_(model[1].norm.beta)
        return amc.capture(model, images(), strict=True)


def images() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_block_can_be_pruned_exactly() -> None:
    one = network()
    free = {group.name: len(group) for group in amc.channel_groups(one) if not group.pinned}
    assert free["1.up"] == 12, "the inner channels can go"
    smaller = assert_masked_equals_shrunk(one, images())
    norm = smaller.layer("1.norm")
    assert (norm.channels, norm.width) == (6, 12)


def test_a_pruned_block_survives_its_file(tmp_path) -> None:
    result = amc.compress(network(), "pruning", calibration=[images()], total=0.3)
    path = amc.export(result.network, "json", tmp_path / "block.json")
    assert torch.equal(amc.load(path)(images()), result.network(images()))
