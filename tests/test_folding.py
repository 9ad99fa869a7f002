"""Batch norms folded into the layers in front of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import amc_plugins as amc
from amc_plugins.graph import fold_norms


class Net(nn.Module):
    """A convolution of every kind before a batch norm, one batch norm that stays, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8, affine=False)
        self.shared, self.bn3 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.bn4 = nn.BatchNorm2d(8)
        self.linear, self.bn5 = nn.Linear(8, 6), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.plain(x)).relu()
        x = self.bn2(self.depthwise(x)).relu()
        y = self.shared(x)
        x = self.bn4((y + self.bn3(y)).relu())  # two read what `shared` makes, and no layer is in front of bn4
        return self.bn5(self.linear(x.mean((2, 3))))


@pytest.fixture
def network() -> amc.ReconstructedNetwork:
    torch.manual_seed(0)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return amc.capture(net.eval(), torch.randn(2, 3, 6, 6)).double()


def test_the_folded_network_computes_the_same(network: amc.ReconstructedNetwork) -> None:
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    before = network.state_dict()
    folded = fold_norms(network)
    assert torch.allclose(folded(x), network(x), rtol=1e-12, atol=1e-12)
    assert [name for name in folded.layer_names if name.startswith("bn")] == ["bn3", "bn4"]
    assert folded.layer("plain").bias is not None
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert amc.profile(folded, x).total_macs == amc.profile(network, x).total_macs


def test_frozen_layers_stay_frozen(network: amc.ReconstructedNetwork) -> None:
    network.layer("plain").requires_grad_(False)
    folded = fold_norms(network)
    assert {one.requires_grad for one in folded.layer("plain").parameters()} == {False}
    assert {one.requires_grad for one in folded.layer("linear").parameters()} == {True}
