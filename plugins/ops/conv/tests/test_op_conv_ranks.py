"""Convolutions over one and three axes: spellings, documents, MACs, patches, and what is left when channels go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from amc_plugins.graph import capture, channel_map, handler_for, make_layer, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds

SIZES = {1: (13,), 3: (7, 6, 8)}
Make = Callable[[], nn.Module]
LAYERS: list[tuple[int, Make]] = [
    (1, lambda: nn.Conv1d(8, 12, 3)),
    (1, lambda: nn.Conv1d(8, 12, 4, stride=2, padding=3, dilation=2, bias=False)),
    (1, lambda: nn.Conv1d(8, 12, 3, padding="same", padding_mode="reflect")),
    (1, lambda: nn.Conv1d(8, 12, 3, groups=4)),
    (1, lambda: nn.Conv1d(8, 16, 3, padding=1, groups=8)),
    (3, lambda: nn.Conv3d(8, 12, 3)),
    (3, lambda: nn.Conv3d(8, 12, (1, 3, 2), stride=(1, 2, 3), padding=(0, 1, 2), dilation=(1, 2, 1), bias=False)),
    (3, lambda: nn.Conv3d(8, 12, (3, 1, 3), padding="same", padding_mode="circular")),
    (3, lambda: nn.Conv3d(8, 12, 3, groups=2)),
    (3, lambda: nn.Conv3d(8, 8, 3, padding=1, groups=8)),
    (1, lambda: nn.ConvTranspose1d(8, 12, 4, stride=2, padding=1)),
    (1, lambda: nn.ConvTranspose1d(8, 12, 3, stride=3, output_padding=1, groups=2, bias=False)),
    (3, lambda: nn.ConvTranspose3d(8, 12, 2, stride=2)),
    (3, lambda: nn.ConvTranspose3d(8, 12, (1, 3, 2), (1, 2, 3), (0, 1, 0), (0, 1, 2), groups=4)),
    (3, lambda: nn.ConvTranspose3d(8, 8, 3, padding=1, groups=8)),
]
each = pytest.mark.parametrize(("rank", "make"), LAYERS)


class Middle(nn.Module):
    """A layer between two of its kind."""

    def __init__(self, rank: int, middle: nn.Module) -> None:
        super().__init__()
        kind: Any = {1: nn.Conv1d, 3: nn.Conv3d}[rank]
        self.first, self.middle, self.last = kind(2, 8, 1), middle, kind(middle.out_channels, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.middle(self.first(x)))
        return y


def signal(rank: int, channels: int = 2, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, *SIZES[rank], generator=torch.Generator().manual_seed(4))


@each
def test_a_network_with_the_layer(rank: int, make: Make) -> None:
    torch.manual_seed(0)
    model, x = Middle(rank, make()).eval(), signal(rank)
    network = capture(model, x, strict=True)
    assert_rebuilds(network, x)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert 2 * profile(network, x).total_macs == counter.get_total_flops()
    kind = type(model.middle).__name__
    (node,) = (node for node in network.graph.nodes if node.name == "middle")
    assert node.op == ("vn.conv_transpose" if "Transpose" in kind else "vn.conv") + f"{rank}d"
    handler, shape = handler_for(node.op), (2, 8, *SIZES[rank])
    assert handler.shapes(handler.params(model.middle), [shape]) == [tuple(model.middle(signal(rank, 8)).shape)]
    for seed in range(2):
        smaller = assert_masked_equals_shrunk(network, x, seed=seed)
        assert smaller.layer("middle").in_channels < 8
        assert_rebuilds(smaller, x.double())


@each
def test_patches_give_the_responses(rank: int, make: Make) -> None:
    torch.manual_seed(0)
    module: Any = make().double()
    one = handler_for(f"vn.conv{rank}d").linear(module)
    if "Transpose" in type(module).__name__:
        assert handler_for(f"vn.conv_transpose{rank}d").linear(module) is None
        return
    assert one is not None
    x = signal(rank, 8, batch=3).double()
    with torch.no_grad():
        y = module(x)
    assert one.weight.shape == (module.out_channels, 8 // module.groups * one.taps)
    for per_sample in (None, 4):
        positions = one.positions(tuple(y.shape), per_sample, torch.Generator().manual_seed(5))
        assert len(positions) == (y.numel() // y.shape[1] if per_sample is None else 12)
        patches = one.patches(x, positions)
        blocks = zip(patches.chunk(one.groups, 1), one.weight.chunk(one.groups), strict=True)
        found = torch.cat([patch @ weight.T for patch, weight in blocks], 1)
        expected = one.responses(y, positions)
        assert (found + (0 if one.bias is None else one.bias) - expected).abs().max() < 1e-12
    again = one.rebuilt(one.weight, one.bias)
    assert type(again) is type(module)
    with torch.no_grad():
        assert torch.equal(again(x), y)


class Called(nn.Module):
    def __init__(self, shape: tuple[int, ...], function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(6))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


@pytest.mark.parametrize(
    ("rank", "op", "shape", "function", "params"),
    [
        (1, "vn.conv1d", (6, 2, 3), F.conv1d, {"bias": True, "stride": [1]}),
        (1, "vn.conv1d", (6, 2, 3), lambda x, w, b: F.conv1d(x, w, stride=2, padding="valid"), {"padding": "valid"}),
        (1, "vn.conv1d", (6, 1, 3), lambda x, w, b: torch.conv1d(x, w, b, 1, 2, groups=2), {"padding": [2], "groups": 2}),
        (3, "vn.conv3d", (6, 2, 1, 3, 3), F.conv3d, {"kernel_size": [1, 3, 3], "dilation": [1, 1, 1]}),
        (3, "vn.conv3d", (6, 2, 1, 3, 3), lambda x, w, b: torch.conv3d(x, w, padding=(0, 1, 2)), {"padding": [0, 1, 2]}),
        (1, "vn.conv_transpose1d", (2, 6, 3), F.conv_transpose1d, {"output_size": None}),
        (3, "vn.conv_transpose3d", (2, 3, 2, 2, 2), lambda x, w, b: F.conv_transpose3d(x, w, b, 2, groups=2), {"groups": 2}),
    ],
)
def test_functional_calls(rank: int, op: str, shape: tuple[int, ...], function: Any, params: dict[str, Any]) -> None:
    torch.manual_seed(0)
    x = signal(rank)
    network = capture(Called(shape, function), x, strict=True)
    (node,) = network.graph.nodes
    assert node.op == op
    assert params.items() <= node.params.items()
    assert_rebuilds(network, x)


def test_an_output_size_that_is_computed() -> None:
    class UpTo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv1d(2, 4, 3, 2, 1), nn.ConvTranspose1d(4, 2, 3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.up(self.down(x), output_size=x.shape[2:])
            return y

    torch.manual_seed(0)
    model = UpTo().eval()
    network = assert_rebuilds(capture(model, signal(1), strict=True), signal(1))
    for length in (12, 17):
        x = torch.randn(1, 2, length)
        assert torch.equal(network(x), model(x)) and network(x).shape == x.shape


def test_a_convolution_over_channels_pins_them() -> None:
    """Efficient channel attention (ECA): a 1-D convolution whose axis is that of the channels."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.eca, self.last = nn.Conv2d(3, 8, 1), nn.Conv1d(1, 1, 3, padding=1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            gate = self.eca(y.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
            z: Tensor = self.last(y * gate)
            return z

    network = capture(Gated(), torch.rand(2, 3, 5, 5), strict=True)
    assert any(
        "vn.conv1d takes windows over them at test_op_conv_ranks.py:" in why
        for why in channel_map(network).group("first").pinned
    )


def test_one_value_holds_for_all_axes() -> None:
    layer: Any = make_layer(
        "vn.conv3d",
        {"in_channels": 1, "out_channels": 1, "kernel_size": [2], "bias": False, "padding": 1},
        {"weight": torch.ones(1, 1, 2, 2, 2)},
    )
    assert (layer.kernel_size, layer.padding, layer.stride) == ((2, 2, 2), (1, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match="`stride` has 2 values, expected was one for each of 3 spatial axes"):
        handler_for("vn.conv3d").Params(in_channels=1, out_channels=1, kernel_size=[2], stride=[1, 2])


@pytest.mark.parametrize(
    ("rank", "shape", "function"),
    [
        (1, (6, 8, 3), lambda x, w, b: F.conv1d(x, w, b, padding=1)),
        (1, (6, 4, 3), lambda x, w, b: F.conv1d(x, w, b, groups=2)),
        (3, (6, 8, 1, 3, 3), F.conv3d),
        (1, (8, 6, 3), F.conv_transpose1d),
        (3, (8, 3, 2, 2, 2), lambda x, w, b: F.conv_transpose3d(x, w, b, 2, groups=2)),
    ],
)
def test_functional_calls_lose_channels(rank: int, shape: tuple[int, ...], function: Any) -> None:
    torch.manual_seed(0)
    middle: Any = Called(shape, function)
    middle.out_channels = 6
    network = capture(Middle(rank, middle).eval(), signal(rank), strict=True)
    assert {"first", f"middle.{network.graph.nodes[-2].op.removeprefix('vn.')}_0"} <= {
        group.name for group in channel_map(network).groups if not group.pinned
    }
    for seed in range(2):
        smaller = assert_masked_equals_shrunk(network, signal(rank), seed=seed)
        assert smaller.layer("last").in_channels < 6
        assert profile(smaller).total_macs < profile(network).total_macs
