"""Which channels arithmetic ties, and networks that are smaller by them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from amc_plugins.graph import ChannelMap, capture, channel_map
from amc_plugins.testing import assert_masked_equals_shrunk


class TwoBranches(nn.Module):
    """Two convolutions of `widths` channels, joined by `join`, then a convolution."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], widths: tuple[int, int], joined: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Conv2d(3, widths[0], 3, padding=1)
        self.b = nn.Conv2d(3, widths[1], 3, padding=1)
        self.join = join
        self.last = nn.Conv2d(joined, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.join(self.a(x), self.b(x)))


def channels_of(join: Callable[[Tensor, Tensor], Tensor], widths: tuple[int, int] = (6, 6), joined: int = 6) -> ChannelMap:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    network = capture(TwoBranches(join, widths, joined), x, strict=True)
    channels = channel_map(network)
    assert_masked_equals_shrunk(network, x)
    return channels


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: a + b,
        lambda a, b: a.add_(b),
        lambda a, b: torch.sub(a, b, alpha=2),
        lambda a, b: a * b,
        lambda a, b: a / (b * b + 1),
        lambda a, b: a * b.mean((2, 3), keepdim=True),
        lambda a, b: torch.mean(a, (2, 3), True) * b,
    ],
)
def test_channels_that_are_laid_on_each_other_are_tied(join: Callable[[Tensor, Tensor], Tensor]) -> None:
    channels = channels_of(join)
    (group,) = [group for group in channels.groups if not group.pinned]
    assert group.producers == ("a", "b")
    assert group.consumers == ("last",)
    assert len(group) == 6
    assert torch.equal(channels.outputs["a"], channels.outputs["b"])


def test_scalars_leave_channels_alone() -> None:
    channels = channels_of(lambda a, b: 2 - (3 * a + 1) / 2 + 0 * b.mean())
    assert [len(group) for group in channels.groups if group.producers == ("a",) and not group.pinned] == [6]


def test_a_parameter_per_channel_goes_with_its_channel() -> None:
    scale = nn.Parameter(torch.rand(6, 1, 1))
    x = torch.rand(2, 3, 8, 8)
    network = capture(TwoBranches(lambda a, b: a * scale + b, (6, 6), 6), x, strict=True)
    smaller = assert_masked_equals_shrunk(network, x)
    (layer,) = [node.layer for node in smaller.graph.nodes if node.op == "vn.constant"]
    assert smaller.layer(layer).value.shape == (3, 1, 1)


def test_a_map_spread_over_all_channels_stays_and_ties_nothing() -> None:
    channels = channels_of(lambda a, b: a * b, widths=(6, 1))
    spread, free = channels.group("b"), channels.group("a")
    assert spread.pinned and "spreads one channel over several" in spread.pinned[0]
    assert not free.pinned and len(free) == 6
