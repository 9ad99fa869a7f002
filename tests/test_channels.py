"""Channel identity: the groups are right, and removing channels leaves exactly the masked network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.core.channels import _Ids
from amc_plugins.core.document import Node
from amc_plugins.core.errors import GraphError
from amc_plugins.core.shapes import run_shapes
from amc_plugins.graph import ChannelMap, ShrinkCost, capture, channel_map, profile, shapes
from amc_plugins.testing import assert_masked_equals_shrunk, random_removal
from tests.networks import Gated, ShuffleUnit, SkipNet, SmallResNet, TwoInputs, randomized

NETWORKS = [
    (SmallResNet(), (2, 3, 16, 16)),
    (ShuffleUnit(), (2, 3, 6, 6)),
    (Gated(), (2, 3, 8, 8)),
    (SkipNet(), (2, 3, 20, 16)),
]


@pytest.mark.parametrize(("model", "shape"), NETWORKS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_masked_equals_shrunk(model: nn.Module, shape: tuple[int, ...], seed: int) -> None:
    network = capture(randomized(model, seed), torch.rand(shape))
    smaller = assert_masked_equals_shrunk(network, torch.randn(shape), seed=seed)
    assert profile(smaller).total_macs < 0.6 * profile(network).total_macs


def test_residual_stages_are_one_group() -> None:
    network = capture(randomized(SmallResNet()), torch.rand(1, 3, 8, 8))
    groups = {group.name: group for group in amc.channel_groups(network)}
    stage = groups["stem"]
    assert stage.producers == ("stem", "layer1.0.conv2", "layer1.1.conv2")
    assert stage.consumers == ("layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.0.shortcut.0")
    assert stage.followers == ("layer1.0.bn2", "layer1.1.bn2")
    assert len(stage) == 8 and not stage.pinned
    assert groups["layer1.0.conv1"].consumers == ("layer1.0.conv2",)
    assert groups["fc"].pinned == ("an output of the network",)


def test_a_flatten_gives_each_channel_its_positions() -> None:
    network = capture(randomized(Gated()), torch.rand(1, 3, 8, 8))
    channels = channel_map(network)
    made = channels.outputs["conv"]
    assert torch.equal(channels.inputs["fc"], made.repeat_interleave(16))
    assert set(channels.group("conv").producers) == {"conv", "expand"}


def test_concatenation_keeps_the_groups_apart() -> None:
    network = capture(randomized(SkipNet()), torch.rand(1, 3, 20, 16))
    channels = channel_map(network)
    assert channels.group("down1").consumers == ("down2", "up")
    assert torch.equal(channels.inputs["up"], torch.cat([channels.outputs["down1"], channels.outputs["down2"]]))
    # four channels of the convolution before a pixel shuffle make one output channel, and that is pinned
    assert channels.group("last").pinned == ("an output of the network",)
    assert channels.outputs["last"].unique().numel() == 3


class SpatialGate(nn.Module):
    """A one-channel map that multiplies all channels: it must not tie them into one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.gate = nn.Conv2d(8, 1, 1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(x * torch.sigmoid(self.gate(x)))


def test_a_spatial_gate_ties_nothing() -> None:
    network = capture(SpatialGate().eval(), torch.rand(1, 3, 5, 5))
    group = channel_map(network).group("conv")
    assert len(group) == 8 and not group.pinned
    assert_masked_equals_shrunk(network, torch.randn(2, 3, 5, 5))


class Twice(nn.Module):
    """One convolution called twice: its inputs and outputs have one identity."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(self.stem(x)).relu()))


def test_a_layer_called_twice_has_one_set_of_channels() -> None:
    network = capture(Twice().eval(), torch.rand(1, 3, 5, 5))
    assert channel_map(network).group("stem").producers == ("stem", "conv")
    assert_masked_equals_shrunk(network, torch.randn(2, 3, 5, 5))


class Ghost(nn.Module):
    """Each channel goes on with a copy of itself, but for the last, whose copy is cut off: it costs half of what others do."""

    def __init__(self) -> None:
        super().__init__()
        self.primary = nn.Conv2d(3, 5, 1)
        self.cheap = nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.head = nn.Conv2d(9, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(x)
        return self.head(torch.cat([x, self.cheap(x)], 1)[:, :9])


def test_channels_that_take_different_room_are_different_groups() -> None:
    network = capture(Ghost().eval(), torch.rand(2, 3, 4, 4))
    channels = channel_map(network)
    assert {group.name: len(group) for group in channels.groups} == {"primary": 4, "primary#1": 1, "head": 4}
    cost = ShrinkCost(network, channels)
    smaller = channels.shrink(channels.group("primary").ids[1:])
    assert cost.macs({"primary": 1}) == profile(smaller).total_macs
    assert_masked_equals_shrunk(network, torch.randn(2, 3, 4, 4))


class Rolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(8, 8, 1)
        self.c = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(torch.logcumsumexp(self.a(x), 1)))


def test_what_touches_an_opaque_node_is_pinned_with_op_and_line() -> None:
    network = capture(Rolled().eval(), torch.rand(1, 3, 4, 4))
    channels = channel_map(network)
    assert "`torch.logcumsumexp` at test_channels.py:" in channels.group("a").pinned[0]
    assert not channels.group("b").pinned
    with pytest.raises(GraphError, match=r"channels of `a` cannot be removed.*torch\.logcumsumexp"):
        channels.shrink(channels.group("a").ids[:1])


def test_a_group_never_loses_all_its_channels() -> None:
    channels = channel_map(capture(SmallResNet().eval(), torch.rand(1, 3, 8, 8)))
    with pytest.raises(GraphError, match="at least one must stay"):
        channels.shrink(channels.group("layer1.0.conv1").ids)
    with pytest.raises(GraphError, match="no channel group `nothing`"):
        channels.group("nothing")


@pytest.mark.parametrize(("model", "shape"), NETWORKS, ids=lambda value: type(value).__name__)
def test_shape_rules_of_handlers_are_what_the_layers_do(model: nn.Module, shape: tuple[int, ...]) -> None:
    network = capture(randomized(model), torch.rand(shape))
    inputs = network.example_inputs(batch=3)
    found = shapes(network, *inputs)
    assert found == run_shapes(network, *inputs)
    assert all(size[0] == 3 for size in found.values() if len(size) == 4)


@pytest.mark.parametrize(("model", "shape"), NETWORKS, ids=lambda value: type(value).__name__)
def test_predicted_macs_are_those_of_the_shrunk_network(model: nn.Module, shape: tuple[int, ...]) -> None:
    network = capture(randomized(model), torch.rand(shape))
    channels = channel_map(network)
    cost = ShrinkCost(network, channels)
    assert cost.macs({}) == profile(network).total_macs
    for seed, share in ((0, 0.3), (1, 0.7)):
        removed = random_removal(channels, share=share, seed=seed)
        kept = {
            group.name: len(group) - int(torch.isin(group.ids, removed).sum()) for group in channels.groups if not group.pinned
        }
        assert cost.macs(kept) == profile(channels.shrink(removed)).total_macs


def test_shrinking_changes_nothing_of_the_network_given() -> None:
    network = capture(randomized(SmallResNet()), torch.rand(1, 3, 8, 8)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    channels = channel_map(network)
    smaller = channels.shrink(random_removal(channels))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert smaller.training and all(module.training for module in smaller.modules())
    own = {tensor.data_ptr() for tensor in network.state_dict().values()}
    assert not any(tensor.data_ptr() in own for tensor in smaller.state_dict().values() if tensor.numel())


def test_two_inputs_are_tied_where_they_meet() -> None:
    network = capture(TwoInputs().eval(), torch.rand(2, 3, 4, 4), torch.rand(2, 2, 4, 4))
    (group,) = amc.channel_groups(network)
    assert group.producers == ("left", "right") and "an output of the network" in group.pinned


class Counting(nn.Module):
    """Numbers of channels in views, in arithmetic, and of other tensors than the one viewed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.other = nn.Conv2d(3, 8, 1)
        self.head = nn.Conv2d(8, 6, 1)
        self.last = nn.Linear(8 * 16 + 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, z = self.conv(x), self.other(x)
        b, c, h, w = y.shape
        y = self.head(y / (c + 1)).view(b, 6, -1).mean(-1)
        return self.last(torch.cat([z.view(b, c * h * w), y], 1))


def test_numbers_of_channels_that_a_network_computes_with() -> None:
    network = capture(Counting().eval(), torch.rand(2, 3, 4, 4))
    groups = {group.name: len(group) for group in channel_map(network).groups if not group.pinned}
    assert groups == {"conv": 8, "other": 8, "head": 6}
    for seed in range(3):
        smaller = assert_masked_equals_shrunk(network, torch.randn(2, 3, 4, 4), seed=seed)
        assert not [node.name for node in smaller.graph.nodes if node.op == "vn.size" and node.params["dim"] == 1]
        assert smaller(torch.randn(3, 3, 4, 4).double()).shape == (3, 5)


class Asking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(8, 8, 1)
        self.c = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        x = self.a(x)
        y = self.b(x)
        return self.c(y) + torch.full((1, 1, 1, 1), x.shape[1] / 1), y.shape[1] + 1


def test_numbers_of_channels_that_leave_the_graph_pin_them() -> None:
    network = capture(Asking().eval(), torch.rand(2, 3, 4, 4))
    assert network(torch.rand(1, 3, 4, 4))[1] == 9
    groups = {group.name: group.pinned for group in channel_map(network).groups}
    assert groups["b"] == ("an output of the network",)
    assert_masked_equals_shrunk(network, torch.randn(2, 3, 4, 4))


class ClassToken(nn.Module):
    """A token of its own beside the pixels, and position embeddings: channels stay channels, tokens are none."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, 2)
        self.token = nn.Parameter(torch.rand(1, 1, 6))
        self.position = nn.Parameter(torch.rand(1, 10, 6))
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head((x + self.mix(x))[:, 0])


def test_a_class_token_leaves_the_channels_apart() -> None:
    network = capture(ClassToken().eval(), torch.rand(2, 3, 6, 6))
    group = channel_map(network).group("patches")
    assert len(group) == 6 and not group.pinned and group.producers == ("patches", "mix")
    smaller = assert_masked_equals_shrunk(network, torch.randn(2, 3, 6, 6))
    assert smaller.layer("position").value.shape == (1, 10, 3)


def test_macs_of_what_no_sample_is_part_of_are_counted_once() -> None:
    class Table(nn.Module):
        """As Swin V2 does: a bias made of a constant table by linear layers, the same for every sample."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randn(9, 2))
            self.first, self.second = nn.Linear(2, 8), nn.Linear(8, 4)
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).flatten(2).transpose(1, 2) + self.second(self.first(self.table).relu())

    network = capture(Table(), torch.randn(1, 3, 3, 3))
    cost = ShrinkCost(network)
    assert cost.layer_macs({}) == {row.name: row.macs for row in profile(network).rows if row.macs}
    assert cost.macs({}) == 9 * 2 * 8 + 9 * 8 * 4 + 9 * 3 * 4
    assert cost.macs({"first": 5}) == 9 * 2 * 5 + 9 * 5 * 4 + 9 * 3 * 4


def entries(channels: ChannelMap) -> int:
    """How many ids a map holds: of each block of memory once."""
    held = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() // 8 for one in channels.values.values()}
    return sum(held.values())


@pytest.mark.parametrize(("model", "small", "large"), [(SmallResNet(), 8, 96), (ShuffleUnit(), 6, 60), (SkipNet(), 20, 120)])
def test_ids_take_no_memory_for_pixels_and_samples(model: nn.Module, small: int, large: int) -> None:
    narrow, wide = (
        channel_map(capture(randomized(model), torch.rand(batch, 3, size, size))) for batch, size in ((1, small), (3, large))
    )
    assert entries(narrow) == entries(wide)
    made = sum(len(ids) for ids in wide.outputs.values())
    assert entries(wide) <= 4 * made, "a value that holds the ids of another one shares them"


def test_a_flatten_lays_its_ids_out_once() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 10, 1), nn.Flatten(), nn.ReLU(), nn.Linear(10 * 30 * 30, 4))
    held = entries(channel_map(capture(flat.eval(), torch.rand(2, 3, 30, 30))))
    assert 10 * 30 * 30 < held < 10 * 30 * 30 + 100


class Table(nn.Module):
    """A table with an entry for each of a value's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(8, 6, 6))
        self.first = nn.Conv2d(3, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.first(x) + self.table).relu())


def test_a_table_has_the_ids_of_what_it_lies_on() -> None:
    network = capture(randomized(Table()), torch.rand(2, 3, 6, 6))
    channels = channel_map(network)
    assert torch.equal(channels.values["table"], channels.outputs["first"].view(8, 1, 1)), "not one for each entry"
    assert_masked_equals_shrunk(network, torch.randn(2, 3, 6, 6))


def test_what_hangs_is_known_entry_by_entry() -> None:
    ids = _Ids()
    ids.at(Node(name="node", layer="layer", op="vn.add", outputs=["node"]), [(3, 3)])
    lower, table = ids.new(3, axis=0), ids.fresh((3, 3))
    ids.tie(lower, table)
    assert torch.equal(ids.below(table), lower)
    assert torch.equal(ids.below(table[0]), lower[0])
    turned = table.t()  # the same address and shape
    assert ids.below(turned) is turned
    assert ids.classes().tolist() == [0, 1, 2, 0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_what_shrinks_keeps_type_mode_and_flags(dtype: torch.dtype) -> None:
    model = randomized(SmallResNet()).to(dtype)
    model.layer1[0].conv1.weight.requires_grad_(False)
    network = capture(model, torch.rand(2, 3, 8, 8).to(dtype)).train()
    network.layer("layer1.0.bn1").eval()
    smaller = channel_map(network).shrink(random_removal(channel_map(network)))
    before, after = dict(network.named_parameters()), dict(smaller.named_parameters())
    assert before.keys() == after.keys()
    assert {name: one.requires_grad for name, one in before.items()} == {name: one.requires_grad for name, one in after.items()}
    assert sum(not one.requires_grad for one in after.values()) == 1
    assert {one.dtype for one in smaller.state_dict().values() if one.is_floating_point()} == {dtype}
    assert [smaller.layer(name).training for name in smaller.layer_names] == [
        network.layer(name).training for name in network.layer_names
    ]
    assert smaller.eval()(torch.rand(3, 3, 8, 8).to(dtype)).dtype == dtype


class Unshuffled(nn.Module):
    """Sizes of a value whose ids are laid out by an op that moves entries, in a channel shuffle with computed sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pixel_unshuffle(self.first(x), 2)
        b, c, h, w = x.shape
        return self.last(x.view(b, 3, c // 3, h, w).transpose(1, 2).reshape(b, 24, h, w))


def test_the_batch_stays_computed_in_a_smaller_network() -> None:
    network = capture(randomized(Unshuffled()), torch.rand(2, 3, 4, 6))
    channels = channel_map(network)
    assert all(ids.shape[0] == 1 for ids in channels.values.values()), "no ids for samples"
    smaller = assert_masked_equals_shrunk(network, torch.randn(3, 3, 4, 6), removed=channels.group("first").ids[:1])
    for batch in (1, 2, 5):
        assert smaller(torch.randn(batch, 3, 8, 4).double()).shape == (batch, 4, 4, 2)
