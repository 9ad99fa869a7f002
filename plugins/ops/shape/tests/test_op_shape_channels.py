"""Channels through changes of shape: which are tied, which are pinned, and what `keep` makes of literal sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amc_plugins.graph import GraphError, ReconstructedNetwork, capture, channel_map, handler_for
from amc_plugins.handlers import Kept
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Between(nn.Module):
    """Two convolutions of 12 channels on 6 x 4 pixels, `middle` of their results, and a last layer."""

    def __init__(self, middle: Callable[..., Tensor], last: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.second = nn.Conv2d(3, 12, 3, padding=1)
        self.middle = middle
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x), self.second(x)))


def image() -> Tensor:
    return torch.rand(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))


def network_of(middle: Callable[..., Tensor], last: Callable[[], nn.Module]) -> ReconstructedNetwork:
    torch.manual_seed(0)
    return capture(Between(middle, last()), image(), strict=True)


def conv(width: int) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(width, 2, 1)


def linear(width: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(width, 2)


def sizes(network: ReconstructedNetwork) -> dict[str, int]:
    """Producer -> number of channels that can be chosen one by one."""
    return {group.name: len(group) for group in channel_map(network).groups if not group.pinned}


def shuffle(x: Tensor, groups: int, *, computed: bool) -> Tensor:
    batch, channels, height, width = x.shape if computed else (-1, 12, 6, 4)
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(batch, channels, height, width)


def gate(a: Tensor, b: Tensor) -> Tensor:
    return a * b.mean((2, 3)).view(-1, 12, 1, 1).expand_as(a)


def write(x: Tensor, index: Any, value: Any) -> Tensor:
    y = x.clone()
    y[index] = value
    return y


# middle, last layer, and the free choices that `first` and `second` leave
CASES: list[tuple[Callable[..., Tensor], Callable[[], nn.Module], dict[str, int]]] = [
    (lambda a, b: torch.cat([a, b], 1), conv(24), {"first": 12, "second": 12}),
    (lambda a, b: torch.cat([a, b], 2), conv(12), {"first": 12}),
    (lambda a, b: torch.cat([b, a], 0)[: a.shape[0]], conv(12), {"first": 12}),
    (lambda a, b: torch.stack([a, b], 1).mean(1), conv(12), {"first": 12}),
    (lambda a, b: torch.stack([a, b], 2)[:, :, 0], conv(12), {"first": 12}),
    (lambda a, b: torch.stack([a, b], 4).flatten(3), conv(12), {"first": 12}),
    (lambda a, b: a.view(-1, 12 * 24), linear(288), {"first": 12}),
    (lambda a, b: a.view(a.size(0), -1), linear(288), {"first": 12}),
    (lambda a, b: a.reshape(-1, 12, 24).flatten(1), linear(288), {"first": 12}),
    (lambda a, b: a.flatten(2).transpose(1, 2), linear(12), {"first": 12}),
    (lambda a, b: a.flatten(1).unflatten(1, (12, 6, 4)), conv(12), {"first": 12}),
    (lambda a, b: a.unflatten(1, (3, 4)).flatten(1, 2), conv(12), {"first": 4}),
    (lambda a, b: a.unflatten(1, (6, -1)).flatten(1, 2), conv(12), {"first": 6}),
    (lambda a, b: a.permute(0, 2, 3, 1), linear(12), {"first": 12}),
    (lambda a, b: a.permute(0, 2, 3, 1).reshape(-1, 12), linear(12), {"first": 12}),
    (lambda a, b: a.mean((2, 3), keepdim=True).squeeze(), linear(12), {"first": 12}),
    (lambda a, b: a.mean((2, 3), keepdim=True).squeeze(3).squeeze(2), linear(12), {"first": 12}),
    (lambda a, b: a.mean((2, 3))[:, :, None].unsqueeze(3).expand(-1, 12, 6, 4), conv(12), {"first": 12}),
    (lambda a, b: a.mean((2, 3)).view(-1, 12, 1, 1).expand(a.shape), conv(12), {"first": 12}),
    (gate, conv(12), {"first": 12}),
    (lambda a, b: a.view_as(b) * 2, conv(12), {"first": 12}),
    (lambda a, b: shuffle(a, 3, computed=True), conv(12), {"first": 4}),
    (lambda a, b: shuffle(a, 2, computed=False), conv(12), {"first": 6}),
    (lambda a, b: shuffle(torch.cat([a, b], 1), 2, computed=True), conv(24), {"first": 12}),
    (lambda a, b: torch.cat(a.chunk(2, 1)[::-1], 1), conv(12), {"first": 12}),
    (lambda a, b: a.chunk(2, 1)[0] * a.chunk(2, 1)[1], conv(6), {"first": 6}),
    (lambda a, b: torch.cat([F.relu(one) for one in a.chunk(5, 1)], 1), conv(12), {"first": 12}),
    (lambda a, b: torch.cat(a.split(5, 1)[1:], 1), conv(7), {"first": 7}),
    (lambda a, b: torch.cat(a.split([4, 8], 1), 1), conv(12), {"first": 12}),
    (lambda a, b: torch.cat(a.split(a.size(1) // 2, 1)[::-1], 1), conv(12), {"first": 12}),
    (lambda a, b: torch.cat([a[:, 7:], a[:, :7]], 1), conv(12), {"first": 12}),
    (lambda a, b: torch.cat([a[:, a.size(1) // 2 :], b[:, : b.size(1) // 4]], 1), conv(9), {"first": 6, "second": 3}),
    (lambda a, b: a[:, 2:-3, ::2, 1:], conv(7), {"first": 7}),
    (lambda a, b: a[:, -5:][:, :3], conv(3), {"first": 3}),
    (lambda a, b: a * b[:, 3:4], conv(12), {"first": 12}),
    (lambda a, b: a * b[:, 3, None], conv(12), {"first": 12}),
    (lambda a, b: a[:, ::2], conv(6), {"first": 6}),
    (lambda a, b: torch.cat([a[:, 1::2], a[:, ::2]], 1), conv(12), {"first": 12}),
    (lambda a, b: a[:, [7, 0, 3, 3]], conv(4), {"first": 3}),
    (lambda a, b: a.index_select(1, torch.arange(11, -1, -1)) + b, conv(12), {"first": 12}),
    (lambda a, b: a.narrow(1, 4, 8).narrow(1, 0, 6), conv(6), {"first": 6}),
    (lambda a, b: a[:, :, torch.tensor([[0, 1], [2, 2]])].flatten(2, 3), conv(12), {"first": 12}),
    (lambda a, b: a[:, torch.tensor([[0, 1], [2, 2]])].flatten(1, 2), conv(4), {}),
    (lambda a, b: a.flip(1) + b, conv(12), {"first": 12}),
    (lambda a, b: a.flip((1, 2)).roll((5, 1), (1, 3)) * b, conv(12), {"first": 12}),
    (lambda a, b: a.roll(-5, 1).roll(2, 2), conv(12), {"first": 12}),
    (lambda a, b: a.repeat(1, 2, 1, 2), conv(24), {"first": 12}),
    (lambda a, b: a.mean((2, 3)).repeat(2, 1, 3), linear(36), {"first": 12}),
    (lambda a, b: torch.repeat_interleave(a, 2, 1) * torch.cat([b, b], 1), conv(24), {"first": 6}),
    (lambda a, b: sum(a.unbind(2)).unsqueeze(2), conv(12), {"first": 12}),
    (lambda a, b: torch.stack(a.unbind(1), 1), conv(12), {}),
    (lambda a, b: torch.cat(a.tensor_split(5, 1)[::-1], 1), conv(12), {"first": 12}),
    (lambda a, b: a.movedim(1, -1), linear(12), {"first": 12}),
    (lambda a, b: a.unfold(2, 3, 2).flatten(3), conv(12), {"first": 12}),
    (lambda a, b: a.unfold(1, 3, 3).permute(0, 4, 2, 3, 1).flatten(1, 2), conv(18), {}),
    (lambda a, b: a.gather(2, b.argsort(2)), conv(12), {"first": 12}),
    (lambda a, b: a[:, :, b.argsort(2)[0, 0, :, 0]], conv(12), {"first": 12}),
    (lambda a, b: a.index_select(3, b.argmax(3)[0, 0]), conv(12), {"first": 12}),
    (lambda a, b: a[:, b.argsort(1)[0, :, 0, 0]], conv(12), {}),
    (lambda a, b: write(a, (slice(None), slice(None), 0), b[:, :, 1]), conv(12), {"first": 12}),
    (lambda a, b: write(a, (Ellipsis, slice(1, 3)), 0.5), conv(12), {"first": 12}),
    (lambda a, b: write(a, (slice(None), slice(None), [0, 4]), b[:, :, :2]), conv(12), {"first": 12}),
    (lambda a, b: write(a, (slice(None), slice(0, 3)), b[:, :3]), conv(12), {"first": 12}),
    (lambda a, b: write(a * 0, slice(None), b), conv(12), {"first": 12}),
]


@pytest.mark.parametrize(("middle", "last", "expected"), CASES)
def test_masked_equals_shrunk(middle: Callable[..., Tensor], last: Callable[[], nn.Module], expected: dict[str, int]) -> None:
    network = network_of(middle, last)
    reach: Counter[str] = Counter()
    for group in channel_map(network).groups:
        if not group.pinned and "last" in group.consumers:
            reach[group.producers[0]] += len(group)
    assert reach == expected
    for seed in range(3):
        smaller = assert_masked_equals_shrunk(network, image(), seed=seed)
        assert_rebuilds(smaller, image().double())
        again = channel_map(smaller)  # a smaller network can be made smaller still
        assert all(len(group) >= 1 for group in again.groups)


def test_a_flattened_channel_owns_its_features() -> None:
    network = network_of(lambda a, b: a.view(-1, 12 * 24), linear(288))
    channels = channel_map(network)
    assert torch.equal(channels.inputs["last"], channels.outputs["first"].repeat_interleave(24))
    smaller = channels.shrink(channels.outputs["first"][[0, 5]])
    (node,) = [node for node in smaller.graph.nodes if node.op == "vn.reshape"]
    assert node.params == {"shape": [-1, 240]}
    assert smaller.layer("last").weight.shape == (2, 240)


@pytest.mark.parametrize(
    "middle",
    [
        lambda a, b: a.flatten(2).view_as(b) * 2,
        lambda a, b: a.reshape_as(b) * 2,
        lambda a, b: a.mean((2, 3), keepdim=True).expand_as(b) * 2,
    ],
)
def test_a_shape_taken_from_another_tensor_ties_the_two(middle: Callable[..., Tensor]) -> None:
    channels = channel_map(network_of(middle, conv(12)))
    assert [group.producers for group in channels.groups if not group.pinned] == [("first", "second")]


def test_features_that_become_a_map_are_tied_to_whole_channels() -> None:
    """A generator's first step: (N, 288) features as 12 channels of 6 x 4 pixels."""

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Linear(3, 288)
            self.last = nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.features(x).view(-1, 12, 6, 4).relu().mean((2, 3)))

    torch.manual_seed(0)
    x = torch.rand(2, 3)
    network = capture(Generator(), x, strict=True)
    assert sizes(network) == {"features": 12}
    assert assert_masked_equals_shrunk(network, x).layer("features").weight.shape == (144, 3)


def test_chunks_become_explicit_sizes() -> None:
    network = network_of(lambda a, b: torch.cat(a.chunk(2, 1)[::-1], 1), conv(12))
    channels = channel_map(network)
    smaller = channels.shrink(channels.outputs["first"][[0, 1, 2, 9]])
    (node,) = [node for node in smaller.graph.nodes if node.op == "vn.chunk"]
    assert node.params == {"chunks": 2, "dim": 1, "sizes": [3, 5]}


def test_a_piece_cannot_lose_all_its_channels() -> None:
    network = network_of(lambda a, b: torch.cat(a.split([2, 10], 1), 1), conv(12))
    channels = channel_map(network)
    with pytest.raises(GraphError):
        channels.shrink(channels.outputs["first"][:2])
    assert channels.shrink(channels.outputs["first"][1:-1]).layer("last").weight.shape == (2, 2, 1, 1)


def test_slices_move_with_their_channels() -> None:
    network = network_of(lambda a, b: torch.cat([a[:, 7:], a[:, :7], b[:, 2:3]], 1), conv(13))
    channels = channel_map(network)
    smaller = channels.shrink(torch.cat([channels.outputs["first"][[0, 8, 9]], channels.outputs["second"][[0, 5]]]))
    found = [node.params["values"] for node in smaller.graph.nodes if node.op == "vn.slice"]
    assert found == [[6, 9], [0, 6], [1, 2]]


def test_a_channel_taken_out_alone_stays() -> None:
    network = network_of(lambda a, b: a * b[:, 3, None], conv(12))
    channels = channel_map(network)
    pinned = [group for group in channels.groups if any("vn.slice takes one channel out" in why for why in group.pinned)]
    assert [(group.producers, len(group)) for group in pinned] == [(("second",), 1)]
    others = channels.outputs["second"][[0, 1, 2, 7]]
    (node,) = [node for node in channels.shrink(others).graph.nodes if node.op == "vn.slice"]
    assert node.params["values"] == [0]


def test_steps_over_channels_become_positions() -> None:
    network = network_of(lambda a, b: a[:, 1::2], conv(6))
    channels = channel_map(network)
    first = channels.outputs["first"]
    for removed, expected in (([3], (["[5]"], [1, 4, 6, 8, 10])), ([2, 4, 6, 8, 10], (["#:#"], [1, 7]))):
        smaller = channels.shrink(first[removed])
        (node,) = [node for node in smaller.graph.nodes if node.op == "vn.slice"]
        assert (node.params["index"][1:], node.params["values"]) == expected
        assert_masked_equals_shrunk(network, image(), removed=first[removed])


def test_squeeze_of_what_became_one_channel() -> None:
    """`squeeze()` must not take the channel axis when one channel is left."""
    network = network_of(lambda a, b: a.mean((2, 3), keepdim=True).squeeze(), linear(12))
    channels = channel_map(network)
    smaller = channels.shrink(channels.outputs["first"][1:])
    (node,) = [node for node in smaller.graph.nodes if node.op == "vn.squeeze"]
    assert node.params == {"dim": [2, 3]}
    assert smaller(image()).shape == (2, 2)


def test_keep_leaves_computed_sizes() -> None:
    handler = handler_for("vn.reshape")
    module: Any = handler.build(handler.Params(shape=[{"$value": "batch"}, -1, 12]), {})
    kept = Kept((2, 24, 12), {2: torch.tensor([0, 3, 5])})
    shape = handler.params(handler.keep(module, [kept], [kept])).shape
    assert shape[0].name == "batch"
    assert shape[1:] == [-1, 3]


def test_a_shuffle_network_stays_prunable() -> None:
    """Grouped convolutions around a channel shuffle, as in ShuffleNet."""

    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 32, 3, padding=1)
            self.grouped = nn.Conv2d(32, 32, 1, groups=2)
            self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
            self.again = nn.Conv2d(32, 32, 1, groups=2)
            self.last = nn.Conv2d(32, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.grouped(self.first(x))
            batch, channels, height, width = y.size()
            y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)
            return self.last(self.again(self.depthwise(y)))

    torch.manual_seed(0)
    network = capture(Shuffled(), image(), strict=True)
    assert sizes(network) == {"first": 16, "grouped": 8, "again": 16}
    smaller = assert_masked_equals_shrunk(network, image())
    assert smaller.layer("grouped").weight.shape == (16, 8, 1, 1)


@pytest.mark.parametrize(
    ("op", "params"),
    [
        ("flatten", {"start_dim": 1}),
        ("flatten", {"start_dim": -2, "end_dim": -1}),
        ("flatten", {"start_dim": 2, "end_dim": 2}),
        ("unflatten", {"dim": 1, "sizes": [2, -1]}),
        ("unflatten", {"dim": -1, "sizes": [1, 4]}),
        ("reshape", {"shape": [2, -1, 4]}),
        ("expand", {"shape": [5, -1, 6, 3, 4]}),
        ("squeeze", {}),
        ("squeeze", {"dim": [2, -1]}),
        ("chunk", {"chunks": 4, "dim": 1}),
        ("chunk", {"chunks": 3, "dim": 1, "sizes": [1, 2, 3]}),
        ("split", {"sizes": 4, "dim": 1}),
        ("split", {"sizes": [1, 5], "dim": 1}),
        ("unbind", {"dim": -1, "count": 4}),
        ("slice", {"index": [":", "#:#:#"], "values": [1, 6, 2]}),
        ("slice", {"index": ["...", "None", "#"], "values": [-1]}),
        ("slice", {"index": ["None", ":", "[3]"], "values": [0, 0, 5]}),
    ],
)
def test_sizes_are_what_torch_makes(op: str, params: dict[str, Any]) -> None:
    handler = handler_for(f"vn.{op}")
    shape = (6, 1, 3, 4) if op == "expand" else (2, 6, 1, 4)
    typed = handler.Params(**params)
    made = handler.build(typed, {})(torch.zeros(shape))
    told = [tuple(one.shape) for one in (made if isinstance(made, tuple) else (made,))]
    assert handler.shapes(typed, [shape]) == told


def test_what_is_joined_along_another_axis_costs_no_entries() -> None:
    """Channels in one place are tied, and stay one id for each however many places there are."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat([self.first(x), self.second(x[:, :1])], 1))

    network = capture(Joined(), torch.rand(2, 50, 4), strict=True)
    channels = channel_map(network)
    (group,) = [one for one in channels.groups if not one.pinned]
    assert (len(group), group.producers) == (8, ("first", "second"))
    (joined,) = [node for node in network.graph.nodes if node.op == "vn.cat"]
    assert channels.values[joined.outputs[0]].numel() == 8
    assert_masked_equals_shrunk(network, torch.rand(2, 50, 4))
