"""Interpolation, pixel shuffle and padding: spellings, sizes computed at run time, channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from amc_op_resize import Interpolate, Pad, PixelShuffle
from torch import Tensor, nn
from torch.nn import functional as F

from amc_plugins.graph import GraphError, ReconstructedNetwork, capture, channel_map, handler_for, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function = function
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.layer is None else self.layer(x)


def image(batch: int = 2) -> Tensor:
    return torch.rand(batch, 8, 6, 4, generator=torch.Generator().manual_seed(0))


def captured(model: nn.Module) -> ReconstructedNetwork:
    """Captured (which compares the bits, also on a second batch size), rebuilt from JSON, and traced."""
    network = capture(model, image(), strict=True)
    assert_rebuilds(network, image())
    assert torch.equal(torch.fx.symbolic_trace(network)(image()), network(image()))
    return network


SIZE = {
    "size": None,
    "scale_factor": None,
    "mode": "nearest",
    "align_corners": None,
    "recompute_scale_factor": None,
    "antialias": False,
}
PAD = {"mode": "constant", "value": None}


@pytest.mark.parametrize(
    ("function", "op", "params"),
    [
        (lambda x: F.interpolate(x, scale_factor=2), "vn.interpolate", SIZE | {"scale_factor": 2}),
        (lambda x: F.interpolate(x, 7), "vn.interpolate", SIZE | {"size": 7}),
        (lambda x: F.interpolate(input=x, size=(9, 5)), "vn.interpolate", SIZE | {"size": [9, 5]}),
        (
            lambda x: F.interpolate(x, None, (2.5, 0.5), "bilinear", False, recompute_scale_factor=True),
            "vn.interpolate",
            SIZE | {"scale_factor": [2.5, 0.5], "mode": "bilinear", "align_corners": False, "recompute_scale_factor": True},
        ),
        (
            lambda x: F.interpolate(x, size=(3, 3), mode="bicubic", align_corners=False, antialias=True),
            "vn.interpolate",
            SIZE | {"size": [3, 3], "mode": "bicubic", "align_corners": False, "antialias": True},
        ),
        (lambda x: F.interpolate(x, size=(3, 3), mode="area"), "vn.interpolate", SIZE | {"size": [3, 3], "mode": "area"}),
        (lambda x: F.upsample(x, scale_factor=2), "vn.interpolate", SIZE | {"scale_factor": 2}),
        (
            lambda x: F.upsample(x, size=(12, 8), mode="bilinear", align_corners=True),
            "vn.interpolate",
            SIZE | {"size": [12, 8], "mode": "bilinear", "align_corners": True},
        ),
        (lambda x: F.upsample_nearest(x, scale_factor=3), "vn.interpolate", SIZE | {"scale_factor": 3}),
        (
            lambda x: F.upsample_bilinear(x, scale_factor=2),
            "vn.interpolate",
            SIZE | {"scale_factor": 2, "mode": "bilinear", "align_corners": True},
        ),
        (lambda x: F.pixel_shuffle(x, 2), "vn.pixel_shuffle", {"upscale_factor": 2}),
        (lambda x: torch.pixel_shuffle(x, upscale_factor=2), "vn.pixel_shuffle", {"upscale_factor": 2}),
        (lambda x: F.pixel_unshuffle(x, 2), "vn.pixel_unshuffle", {"downscale_factor": 2}),
        (lambda x: torch.pixel_unshuffle(x, downscale_factor=2), "vn.pixel_unshuffle", {"downscale_factor": 2}),
        (lambda x: F.pad(x, (1, 2)), "vn.pad", PAD | {"pad": [1, 2]}),
        (lambda x: F.pad(x, [1, 2, 0, -1], value=0.5), "vn.pad", PAD | {"pad": [1, 2, 0, -1], "value": 0.5}),
        (lambda x: F.pad(x, pad=(1, 1, 2, 2), mode="reflect"), "vn.pad", PAD | {"pad": [1, 1, 2, 2], "mode": "reflect"}),
        (lambda x: F.pad(x, (0, 0, 0, 0, 2, 2)), "vn.pad", PAD | {"pad": [0, 0, 0, 0, 2, 2]}),
    ],
)
def test_functions(function: Callable[[Tensor], Tensor], op: str, params: dict[str, Any]) -> None:
    (node,) = captured(Net(function)).graph.nodes
    assert (node.op, node.params) == (op, params)


@pytest.mark.parametrize(
    ("layer", "op"),
    [
        (nn.Upsample(scale_factor=2), "vn.interpolate"),
        (nn.Upsample(size=(9, 9), mode="bilinear", align_corners=True), "vn.interpolate"),
        (nn.UpsamplingNearest2d(size=9), "vn.interpolate"),
        (nn.UpsamplingBilinear2d(scale_factor=2), "vn.interpolate"),
        (Interpolate(scale_factor=2, mode="bicubic"), "vn.interpolate"),
        (nn.PixelShuffle(2), "vn.pixel_shuffle"),
        (PixelShuffle(2), "vn.pixel_shuffle"),
        (nn.PixelUnshuffle(2), "vn.pixel_unshuffle"),
        (nn.ZeroPad2d((1, 2, 0, 3)), "vn.pad"),
        (nn.ConstantPad2d(1, 0.5), "vn.pad"),
        (nn.ReflectionPad2d(2), "vn.pad"),
        (nn.ReplicationPad2d((1, 2, 3, 4)), "vn.pad"),
        (nn.CircularPad2d(1), "vn.pad"),
        (Pad([1, 1]), "vn.pad"),
    ],
)
def test_modules(layer: nn.Module, op: str) -> None:
    network = captured(Net(lambda x: x, layer))
    (node,) = network.graph.nodes
    assert (node.op, node.layer) == (op, "layer")
    mine = network.layer("layer")
    assert mine is not layer
    handler = handler_for(op)
    again = handler.build(handler.params(mine), handler.tensors(mine))
    assert torch.equal(again(image()), layer(image()))
    assert profile(network).total_macs == 0


def test_sizes_computed_at_run_time() -> None:
    def function(x: Tensor) -> Tensor:
        small = F.interpolate(x, size=[x.shape[2] // 2, 3])
        large = F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)
        height = x.size(2) - small.size(2)
        return large + F.pad(small, (0, x.size(3) - 3, height // 2, height - height // 2))

    network = captured(Net(function))
    other = torch.rand(3, 8, 11, 7)
    assert torch.equal(network(other), function(other))
    assert torch.equal(assert_rebuilds(network, image())(other), function(other))


def test_export_and_dynamo() -> None:
    network = captured(Net(lambda x: F.interpolate(F.pixel_shuffle(F.pad(x, (1, 1)), 2), size=x.shape[2:])))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(network, (image(),), dynamic_shapes=((({0: batch},)),))
    assert torch.equal(program.module()(image(5)), network(image(5)))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.equal(compiled(image()), network(image()))


class Between(nn.Module):
    """A convolution of 16 channels, `middle`, a convolution that reads `width` channels."""

    def __init__(self, middle: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(8, 16, 3, padding=1)
        self.middle = middle
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


@pytest.mark.parametrize(
    "middle",
    [
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.interpolate(x, size=x.shape[3:] * 2),
        lambda x: F.pad(x, (1, 1, 2, 2), value=1.0),
        lambda x: F.pad(x, (1, 1, 2, 2), mode="replicate"),
    ],
)
def test_channels_pass_through(middle: Callable[[Tensor], Tensor]) -> None:
    network = capture(Between(middle, 16), image(), strict=True)
    channels = channel_map(network)
    assert torch.equal(channels.outputs["first"], channels.inputs["last"])
    assert assert_masked_equals_shrunk(network, image()).layer("first").weight.shape[0] == 8


def test_pixel_shuffle_ties_the_channels_of_one_output() -> None:
    network = capture(Between(lambda x: F.pixel_shuffle(x, 2), 4), image(), strict=True)
    channels = channel_map(network)
    (group,) = [group for group in channels.groups if not group.pinned]
    assert (group.producers, len(group)) == (("first",), 4)
    assert torch.equal(channels.outputs["first"], group.ids.repeat_interleave(4))
    smaller = channels.shrink(group.ids[[0, 2]])
    assert smaller.layer("first").weight.shape[0] == 8
    assert torch.equal(smaller.layer("last").weight, network.layer("last").weight[:, [1, 3]])
    assert_masked_equals_shrunk(network, image())


def test_pixel_shuffle_to_one_channel_leaves_no_choice() -> None:
    network = capture(Between(lambda x: F.pixel_shuffle(x, 4), 1), image(), strict=True)
    (group,) = [group for group in channel_map(network).groups if not group.pinned]
    assert len(group) == 1
    with pytest.raises(GraphError, match="at least one must stay"):
        channel_map(network).shrink(group.ids)


def test_pixel_unshuffle_multiplies_a_channel() -> None:
    network = capture(Between(lambda x: F.pixel_unshuffle(x, 2), 64), image(), strict=True)
    channels = channel_map(network)
    assert torch.equal(channels.inputs["last"], channels.outputs["first"].repeat_interleave(4))
    assert assert_masked_equals_shrunk(network, image()).layer("last").weight.shape[1] == 32


def test_shuffling_back_and_forth_restores_the_choice_of_tied_channels() -> None:
    network = capture(Between(lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2), 16), image(), strict=True)
    assert len(channel_map(network).group("first")) == 4
    assert_masked_equals_shrunk(network, image())


def test_channels_made_by_padding_are_fixed() -> None:
    """The shortcut of the first ResNets on CIFAR: zeros beside fewer channels."""
    network = capture(
        Between(lambda x: torch.cat([F.pad(x, (1, 0, 0, 0, 2, 3)), x.repeat(1, 1, 1, 2)[..., :5]], 1), 37), image()
    )
    group = channel_map(network).group("first")
    assert not group.pinned and len(group) == 16
    smaller = assert_masked_equals_shrunk(network, image())
    assert smaller.layer("last").weight.shape[1] == 8 + 5 + 8


def test_a_shortcut_with_fewer_channels() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.wide, self.last = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 12, 3, padding=1), nn.Conv2d(12, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.last(self.wide(y) + F.pad(y, (0, 0, 0, 0, 3, 3)))

    network = capture(Shortcut(), image(), strict=True)
    groups = [(group.producers, len(group)) for group in channel_map(network).groups if not group.pinned]
    assert groups == [(("first", "wide"), 6)], "those beside the shortcut are laid on what padding made"
    assert_rebuilds(assert_masked_equals_shrunk(network, image()), image().double())


@pytest.mark.parametrize(
    "middle", [lambda x: F.pad(x, (0, 0, 0, 0, -2, 2)), lambda x: F.pad(x[None], (0, 0, 0, 0, 2, 2), mode="replicate")[0]]
)
def test_other_paddings_of_channels_pin_them(middle: Callable[[Tensor], Tensor]) -> None:
    network = capture(Between(middle, middle(torch.zeros(1, 16, 2, 2)).shape[1]), image(), strict=True)
    assert channel_map(network).group("first").pinned[0].startswith("vn.pad pads them at ")


def theta(x: Tensor) -> Tensor:
    return torch.tensor([[0.9, 0.2, 0.1], [-0.2, 0.8, 0.0]]).expand(x.shape[0], 2, 3)


PATCHES: list[tuple[Callable[[Tensor], Tensor], str, int, int]] = [  # what is done, op, channels of the result, free choices
    (lambda x: F.grid_sample(x, F.affine_grid(theta(x), x.shape, False), align_corners=False), "grid_sample", 16, 16),
    (
        lambda x: F.grid_sample(grid=x[:, :2].permute(0, 2, 3, 1), input=x, mode="nearest", align_corners=True),
        "grid_sample",
        16,
        14,
    ),
    (lambda x: F.unfold(x, 3, padding=1).unsqueeze(-1), "unfold", 144, 16),
    (lambda x: nn.Unfold((2, 1), dilation=2, stride=(1, 2))(x).unsqueeze(-1), "unfold", 32, 16),
    (lambda x: F.fold(x.flatten(2), (5, 7), (2, 2)), "fold", 4, 4),
    (lambda x: F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2), "fold", 16, 16),
    (lambda x: F.channel_shuffle(x, 4), "channel_shuffle", 16, 4),
    (nn.ChannelShuffle(2), "channel_shuffle", 16, 8),
]


@pytest.mark.parametrize(("middle", "op", "width", "free"), PATCHES)
def test_masked_equals_shrunk(middle: Callable[[Tensor], Tensor], op: str, width: int, free: int) -> None:
    for needed in ("amc_op_shape", "amc_op_creation", "amc_op_pooling", "amc_op_arithmetic"):
        pytest.importorskip(needed)
    network = capture(Between(middle, width), image(), strict=True)
    assert_rebuilds(network, image())
    assert f"vn.{op}" in [node.op for node in network.graph.nodes]
    groups = [group for group in channel_map(network).groups if not group.pinned and "last" in group.consumers]
    assert sum(len(group) for group in groups) == free
    for seed in range(2):
        smaller = assert_masked_equals_shrunk(network, image(), seed=seed)
        assert_rebuilds(smaller, image().double())


@pytest.mark.parametrize(
    ("layer", "rank"),
    [
        (nn.ZeroPad1d((1, 2)), 1),
        (nn.ReflectionPad1d(2), 1),
        (nn.ConstantPad3d(1, 0.5), 3),
        (nn.ReplicationPad3d((1, 0, 0, 1, 1, 1)), 3),
    ],
)
def test_paddings_of_other_ranks(layer: nn.Module, rank: int) -> None:
    x = torch.rand(2, 3, *((5, 6, 7)[:rank]))
    network = capture(Net(lambda y: y, layer), x, strict=True)
    assert [node.op for node in network.graph.nodes] == ["vn.pad"]
    assert_rebuilds(network, x)


def test_the_size_of_a_fold_is_computed() -> None:
    def function(x: Tensor) -> Tensor:
        return F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1)

    network = captured(Net(function))
    other = torch.rand(1, 8, 9, 5)
    assert torch.equal(network(other), function(other))


@pytest.mark.parametrize("pad", [[1, 2], [0, 3, 2, 1], [-1, 1, 2, -2, 0, 3]])
def test_sizes_after_padding(pad: list[int]) -> None:
    handler = handler_for("vn.pad")
    params = handler.Params(pad=pad, mode="constant", value=None)
    assert handler.shapes(params, [(2, 3, 4, 5)]) == [tuple(F.pad(torch.zeros(2, 3, 4, 5), pad).shape)]
    assert handler.shapes(handler.Params(pad=[-6, 0], mode="constant", value=None), [(2, 3, 4, 5)]) is None
