"""Channel groups through dense, grouped, depthwise and transposed convolutions, and the networks left without some of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from amc_plugins.graph import ChannelGroup, ReconstructedNetwork, capture, channel_map


class Middle(nn.Module):
    """Two dense layers with the layer of interest between them; no biases, so that a dead channel is zero everywhere."""

    def __init__(self, middle: nn.Module, out: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Conv2d(3, 8, 3, bias=False), middle, nn.Conv2d(out, 2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.middle(torch.relu(self.first(x)))))
        return y


def captured(middle: nn.Module, out: int) -> tuple[Middle, ReconstructedNetwork]:
    pytest.importorskip("amc_op_activation")
    model = Middle(middle, out).double().eval()
    return model, capture(model, torch.randn(2, 3, 11, 11, dtype=torch.float64))


def by_producer(groups: list[ChannelGroup], layer: str) -> ChannelGroup:
    (group,) = (one for one in groups if one.producers == (layer,))
    return group


def agree(model: Middle, small: ReconstructedNetwork, first: list[int], middle: list[int]) -> None:
    """The small network equals the model with the filters of the removed channels at zero."""
    with torch.no_grad():
        model.first.weight[first] = 0
        model.last.weight[:, middle] = 0
        x = torch.randn(2, 3, 11, 11, dtype=torch.float64)
        assert (small(x) - model(x)).abs().max() < 1e-10


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_dense(kind: type[nn.Module]) -> None:
    model, network = captured(kind(8, 6, 3, stride=2, padding=1, bias=False), 6)
    channels = channel_map(network)
    first, middle = by_producer(channels.groups, "first"), by_producer(channels.groups, "middle")
    assert (len(first), len(middle)) == (8, 6)
    assert (first.consumers, middle.consumers, first.followers) == (("middle",), ("last",), ())
    assert not first.pinned and not middle.pinned
    small = channels.shrink(torch.cat([first.ids[[1, 6]], middle.ids[[0, 2, 5]]]))
    assert small.layer("middle").weight.shape == ((3, 6, 3, 3) if kind is nn.Conv2d else (6, 3, 3, 3))
    agree(model, small, [1, 6], [0, 2, 5])


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_channels_follow_their_input(kind: type[nn.Module], multiplier: int) -> None:
    model, network = captured(kind(8, 8 * multiplier, 3, padding=1, groups=8, bias=False), 8 * multiplier)
    channels = channel_map(network)
    first = by_producer(channels.groups, "first")
    assert (len(first), first.consumers, first.followers) == (8, ("last",), ("middle",))
    small = channels.shrink(first.ids[[0, 5, 6]])
    middle = small.layer("middle")
    assert (middle.groups, middle.in_channels, middle.out_channels) == (5, 5, 5 * multiplier)
    agree(model, small, [0, 5, 6], [])


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_grouped_channels_go_from_all_groups_alike(kind: type[nn.Module]) -> None:
    model, network = captured(kind(8, 12, 3, groups=4, bias=False), 12)
    channels = channel_map(network)
    first, middle = by_producer(channels.groups, "first"), by_producer(channels.groups, "middle")
    assert (len(first), len(middle)) == (2, 3), "two inputs and three outputs per group"
    small = channels.shrink(torch.stack([first.ids[0], middle.ids[1]]))
    left = small.layer("middle")
    assert (left.groups, left.in_channels, left.out_channels) == (4, 4, 8)
    agree(model, small, [0, 2, 4, 6], [1, 4, 7, 10])


def test_a_shared_depthwise_layer_ties_what_it_reads() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 6, 1, bias=False)
            self.between = nn.Conv2d(6, 6, 1, bias=False)
            self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
            self.last = nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.depthwise(self.between(self.depthwise(self.first(x)))))
            return y

    network = capture(Twice().double().eval(), torch.randn(1, 3, 7, 7, dtype=torch.float64))
    channels = channel_map(network)
    assert {one.producers for one in channels.groups if not one.pinned} == {("first", "between")}
