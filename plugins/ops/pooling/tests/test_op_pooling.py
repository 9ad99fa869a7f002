"""Pooling and means: spellings, sizes computed at run time, channels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from amc_op_pooling import AvgPool2d, TensorMean
from torch import Tensor, nn
from torch.nn import functional as F

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, handler_for, make_layer, profile, shapes
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function = function
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) if self.layer is None else self.layer(x)


def image(batch: int = 2) -> Tensor:
    return torch.rand(batch, 6, 12, 12, generator=torch.Generator().manual_seed(0))


def captured(model: nn.Module) -> ReconstructedNetwork:
    """Captured (which compares the bits, also on a second batch size), rebuilt from JSON, and traced."""
    network = capture(model, image(), strict=True)
    assert_rebuilds(network, image())
    assert torch.equal(torch.fx.symbolic_trace(network)(image()), network(image()))
    return network


MAX = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False}
AVG = {"kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": False, "count_include_pad": True, "divisor_override": None}


@pytest.mark.parametrize(
    ("function", "op", "params"),
    [
        (lambda x: F.max_pool2d(x, 2), "vn.max_pool2d", MAX),
        (
            lambda x: F.max_pool2d(x, kernel_size=3, stride=(2, 1), padding=1, dilation=2, ceil_mode=True),
            "vn.max_pool2d",
            {"kernel_size": 3, "stride": [2, 1], "padding": 1, "dilation": 2, "ceil_mode": True},
        ),
        (
            lambda x: F.max_pool2d(input=x, kernel_size=(3, 2), stride=None),
            "vn.max_pool2d",
            MAX | {"kernel_size": [3, 2], "stride": [3, 2]},
        ),
        (lambda x: torch.max_pool2d(x, 2, 1), "vn.max_pool2d", MAX | {"stride": 1}),
        (lambda x: torch.max_pool2d(x, [2, 2], []), "vn.max_pool2d", MAX | {"kernel_size": [2, 2], "stride": [2, 2]}),
        (lambda x: F.avg_pool2d(x, 2), "vn.avg_pool2d", AVG),
        (
            lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False, divisor_override=5),
            "vn.avg_pool2d",
            AVG | {"kernel_size": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False, "divisor_override": 5},
        ),
        (lambda x: F.adaptive_avg_pool2d(x, 1), "vn.adaptive_avg_pool2d", {"output_size": 1}),
        (lambda x: F.adaptive_avg_pool2d(x, output_size=(None, 5)), "vn.adaptive_avg_pool2d", {"output_size": [None, 5]}),
        (lambda x: F.adaptive_max_pool2d(x, (3, 2)), "vn.adaptive_max_pool2d", {"output_size": [3, 2]}),
        (lambda x: x.mean(), "vn.mean", {"dim": None, "keepdim": False}),
        (lambda x: x.mean([2, 3]), "vn.mean", {"dim": [2, 3], "keepdim": False}),
        (lambda x: x.mean(-1, True), "vn.mean", {"dim": [-1], "keepdim": True}),
        (lambda x: x.mean(axis=(2, 3), keepdims=True), "vn.mean", {"dim": [2, 3], "keepdim": True}),
        (lambda x: torch.mean(x, dim=(2, 3), keepdim=True), "vn.mean", {"dim": [2, 3], "keepdim": True}),
        (lambda x: torch.mean(input=x, dim=()), "vn.mean", {"dim": None, "keepdim": False}),
    ],
)
def test_functions(function: Callable[[Tensor], Tensor], op: str, params: dict[str, Any]) -> None:
    (node,) = captured(Net(function)).graph.nodes
    assert (node.op, node.params) == (op, params)


@pytest.mark.parametrize(
    ("layer", "op"),
    [
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), "vn.max_pool2d"),
        (nn.AvgPool2d((3, 2), 2, 1, count_include_pad=False), "vn.avg_pool2d"),
        (nn.AdaptiveAvgPool2d((1, None)), "vn.adaptive_avg_pool2d"),
        (nn.AdaptiveMaxPool2d(3), "vn.adaptive_max_pool2d"),
        (AvgPool2d(2), "vn.avg_pool2d"),
        (TensorMean([2, 3]), "vn.mean"),
    ],
)
def test_modules(layer: nn.Module, op: str) -> None:
    network = captured(Net(lambda x: x, layer))
    (node,) = network.graph.nodes
    assert (node.op, node.layer) == (op, "layer")
    assert network.layer("layer") is not layer
    handler = handler_for(op)
    again = handler.build(handler.params(layer), handler.tensors(layer))
    assert torch.equal(again(image()), layer(image()))
    assert shapes(network, image(5))[node.outputs[0]][0] == 5
    assert profile(network).total_macs == 0


@pytest.mark.parametrize(
    "model",
    [
        Net(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
        Net(lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True)[0]),
        Net(lambda x: x.mean(1, dtype=torch.float64)),
        nn.Sequential(nn.MaxPool2d(2, return_indices=True)),
    ],
)
def test_variants_that_are_declined_still_run(model: nn.Module) -> None:
    network = capture(model, image())
    assert [node.op for node in network.graph.nodes] == ["opaque"]


def test_windows_computed_at_run_time() -> None:
    def function(x: Tensor) -> Tensor:
        y = F.avg_pool2d(x, kernel_size=x.shape[2:])
        z = F.max_pool2d(x, x.size(3), stride=1)
        return y + z + F.adaptive_avg_pool2d(x, (x.size(2) // 12, 1))

    network = captured(Net(function))
    other = torch.rand(3, 6, 24, 24)
    expected = other.mean((2, 3), keepdim=True) + other.amax((2, 3), keepdim=True)
    assert (network(other) - expected - F.adaptive_avg_pool2d(other, (2, 1))).abs().max() < 1e-6


def test_export_and_dynamo() -> None:
    network = captured(Net(lambda x: F.avg_pool2d(F.max_pool2d(x, 2), x.shape[2] // 2).mean((2, 3)), None))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(network, (image(),), dynamic_shapes=((({0: batch},)),))
    assert torch.equal(program.module()(image(5)), network(image(5)))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.equal(compiled(image()), network(image()))


class Head(nn.Module):
    def __init__(self, pool: Callable[[Tensor], Tensor], *, maps: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(6, 8, 3)
        self.pool = pool
        self.last: nn.Module = nn.Conv2d(8, 2, 1) if maps else nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pool(self.first(x)))


@pytest.mark.parametrize(
    ("pool", "maps"),
    [
        (lambda x: F.max_pool2d(x, 2), True),
        (lambda x: F.avg_pool2d(x, 3, 1, 1), True),
        (lambda x: F.adaptive_avg_pool2d(x, 2), True),
        (lambda x: F.adaptive_max_pool2d(x, 2), True),
        (lambda x: x.mean((2, 3)), False),
        (lambda x: x.mean(3, keepdim=True), True),
    ],
)
def test_channels_pass_through(pool: Callable[[Tensor], Tensor], maps: bool) -> None:
    network = capture(Head(pool, maps=maps), image(), strict=True)
    channels = channel_map(network)
    assert torch.equal(channels.outputs["first"], channels.inputs["last"])
    assert not channels.group("first").pinned
    assert assert_masked_equals_shrunk(network, image()).layer("first").weight.shape == (4, 6, 3, 3)


def test_a_mean_over_channels_pins_them() -> None:
    network = capture(Head(lambda x: x * x.mean(1, keepdim=True), maps=True), image(), strict=True)
    group = channel_map(network).group("first")
    assert any("vn.mean averages over them" in why for why in group.pinned)


def test_windows_over_channels_pin_them() -> None:
    network = capture(
        Head(lambda x: F.avg_pool2d(x.permute(0, 2, 1, 3), 3, 1, 1).permute(0, 2, 1, 3), maps=True), image(), strict=True
    )
    assert channel_map(network).group("first").pinned[0].startswith("vn.avg_pool2d takes windows over them at ")


def test_layers_made_by_op_id() -> None:
    x = image()
    assert torch.equal(make_layer("vn.max_pool2d", {"kernel_size": 2, "stride": 2}, {})(x), F.max_pool2d(x, 2))
    assert torch.equal(make_layer("vn.mean", {"dim": [2, 3]}, {})(x), x.mean((2, 3)))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_windows_are_counted_as_torch_counts_them(kind: str, ceil_mode: bool) -> None:
    handler = handler_for(f"vn.{kind}_pool1d")
    refused = 0
    for kernel, stride, size, dilation in product(range(1, 5), range(1, 5), range(1, 10), (1, 2) if kind == "max" else (1,)):
        for padding in range(kernel // 2 + 1):
            given = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
            params = handler.Params(**given, **({"dilation": dilation} if kind == "max" else {}))
            told = handler.shapes(params, [(2, 3, size)])
            try:
                made = handler.build(params, {})(torch.zeros(2, 3, size))
            except RuntimeError:
                refused += 1
                assert told is None
            else:
                assert told == [tuple(made.shape)], (given, dilation, size)
    assert refused > 0


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["mean", "sum", "amax", "std", "norm", "logsumexp"])
def test_sizes_after_a_reduction(name: str, keepdim: bool) -> None:
    handler = handler_for(f"vn.{name}")
    for dim in ([1], [-1], [2, -1], [0, 1, 2, 3]):
        params = handler.Params(dim=dim, keepdim=keepdim)
        made = handler.build(params, {})(torch.ones(2, 3, 4, 5))
        assert handler.shapes(params, [(2, 3, 4, 5)]) == [tuple(made.shape)], dim
