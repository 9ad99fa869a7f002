"""Powers, comparisons, choices, functions of one entry and conversions: every spelling, and their channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, make_layer, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds

Function = Callable[[Tensor, Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x.clone(), y)


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 4, 3, 5, generator=generator) + 0.5, torch.rand(2, 4, 3, 5, generator=generator) + 0.5


def captured(function: Function) -> ReconstructedNetwork:
    """Captured (which compares the bits, also on a second batch size), rebuilt from JSON, and traced."""
    network = capture(Net(function), *example(), strict=True)
    assert_rebuilds(network, *example())
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(*example()), network(*example()))
    return network


def nodes(network: ReconstructedNetwork) -> list[tuple[str, dict[str, Any]]]:
    skipped = ("vn.identity", "vn.size", "vn.int", "vn.constant")
    return [(node.op, node.params) for node in network.graph.nodes if node.op not in skipped]


PLAIN = {"other": None, "reversed": False}
SPELLINGS: list[tuple[Function, str, dict[str, Any]]] = [
    (lambda x, y: x**y, "vn.pow", PLAIN),
    (lambda x, y: x**2, "vn.pow", {"other": 2}),
    (lambda x, y: 2**x, "vn.pow", {"other": 2, "reversed": True}),
    (lambda x, y: x.pow(0.5), "vn.pow", {"other": 0.5}),
    (lambda x, y: torch.pow(x, exponent=y), "vn.pow", PLAIN),
    (lambda x, y: torch.pow(2, y), "vn.pow", {"other": 2, "reversed": True}),
    (lambda x, y: x.pow_(3), "vn.pow", {"other": 3}),
    (lambda x, y: x // 0.3, "vn.floor_divide", {"other": 0.3}),
    (lambda x, y: 2 // x, "vn.floor_divide", {"other": 2, "reversed": True}),
    (torch.floor_divide, "vn.floor_divide", PLAIN),
    (lambda x, y: x % y, "vn.remainder", PLAIN),
    (lambda x, y: 2 % x, "vn.remainder", {"other": 2, "reversed": True}),
    (lambda x, y: x.remainder(0.4), "vn.remainder", {"other": 0.4}),
    (torch.maximum, "vn.maximum", PLAIN),
    (lambda x, y: x.maximum(y), "vn.maximum", PLAIN),
    (lambda x, y: torch.minimum(other=y, input=x), "vn.minimum", {"reversed": True}),
    (lambda x, y: x.clamp(0.6, 1.2), "vn.clamp", {"min": 0.6, "max": 1.2, "roles": ["input"]}),
    (lambda x, y: torch.clamp(x, max=1), "vn.clamp", {"min": None, "max": 1}),
    (lambda x, y: x.clip_(min=0.75), "vn.clamp", {"min": 0.75, "max": None}),
    (lambda x, y: torch.clip(x, y, 1.4 * y)[:], "", {}),
    (lambda x, y: x.clamp(y), "vn.clamp", {"roles": ["input", "min"], "max": None}),
    (lambda x, y: x.clamp(max=y, min=None), "vn.clamp", {"roles": ["input", "max"], "min": None}),
    (lambda x, y: x.clamp_min(0.9), "vn.clamp", {"min": 0.9, "max": None}),
    (lambda x, y: torch.clamp_max(x, 0.9), "vn.clamp", {"min": None, "max": 0.9}),
    (lambda x, y: x.clamp(max=x.shape[1]), "vn.clamp", {"min": None}),
    (lambda x, y: torch.addcmul(x, x, y), "vn.addcmul", {"roles": ["input", "tensor1", "tensor2"], "value": 1}),
    (lambda x, y: x.addcmul_(y, y, value=0.5), "vn.addcmul", {"value": 0.5}),
    (lambda x, y: x.double(), "vn.cast", {"dtype": "float64"}),
    (lambda x, y: x.half().float(), "", {}),
    (lambda x, y: x.to(torch.float16), "vn.cast", {"dtype": "float16"}),
    (lambda x, y: x.to(x.device, dtype=torch.float64), "vn.cast", {"dtype": "float64"}),
    (lambda x, y: x.to("cpu"), "vn.cast", {"dtype": None}),
    (lambda x, y: x.to(y), "vn.cast", {"dtype": None}),
    (lambda x, y: x.type_as(y), "vn.cast", {"dtype": None}),
    (lambda x, y: x.to(torch.float32, copy=True), "vn.cast", {"dtype": None}),
    (lambda x, y: x.type(torch.int32), "vn.cast", {"dtype": "int32"}),
    (lambda x, y: x.long(), "vn.cast", {"dtype": "int64"}),
    (lambda x, y: x.bool(), "vn.cast", {"dtype": "bool"}),
]
COMPARED: list[tuple[Function, str]] = [
    (lambda x, y: x == y, "eq"),
    (lambda x, y: x != 1, "ne"),
    (lambda x, y: x > y, "gt"),
    (lambda x, y: 1 < x, "gt"),
    (lambda x, y: x.ge(0.9), "ge"),
    (torch.less, "lt"),
    (lambda x, y: torch.le(x, other=y), "le"),
    (torch.logical_and, "logical_and"),
    (lambda x, y: x.logical_xor(y), "logical_xor"),
    (torch.logical_or, "logical_or"),
]
ONE = [
    *(
        name
        for name in "exp expm1 log log1p log2 sqrt rsqrt square reciprocal neg abs sign sin cos erf floor ceil round".split()
    ),
]


@pytest.mark.parametrize(("function", "op", "params"), SPELLINGS)
def test_functions(function: Function, op: str, params: dict[str, Any]) -> None:
    network = captured(function)
    if op:
        (found,) = nodes(network)
        assert found[0] == op
        assert params.items() <= found[1].items()
    assert profile(network).total_macs == 0


@pytest.mark.parametrize(("function", "name"), COMPARED)
def test_comparisons(function: Function, name: str) -> None:
    assert [op for op, _ in nodes(captured(function))] == [f"vn.{name}"]


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_entry(name: str) -> None:
    for function in (
        lambda x, y: getattr(torch, name)(x - 0.25),
        lambda x, y: getattr(x - 0.25, name)(),
        lambda x, y: getattr(x - 0.25, f"{name}_")(),
    ):
        assert [op for op, _ in nodes(captured(function))] == ["vn.sub", f"vn.{name}"]


def test_operators_of_one_tensor() -> None:
    assert [op for op, _ in nodes(captured(lambda x, y: -x))] == ["vn.neg"]
    assert [op for op, _ in nodes(captured(lambda x, y: abs(x)))] == ["vn.abs"]
    assert [op for op, _ in nodes(captured(lambda x, y: ~(x > y)))] == ["vn.gt", "vn.logical_not"]
    found = [op for op, _ in nodes(captured(lambda x, y: ((x > y) & (y > 1)) | ((x < 1) ^ (y < 1))))]
    assert found.count("vn.logical_and") == found.count("vn.logical_or") == found.count("vn.logical_xor") == 1


@pytest.mark.parametrize(
    ("function", "op", "params"),
    [
        (lambda x, y: torch.where(x > y, x, y), "vn.where", {"roles": ["condition", "input", "other"]}),
        (lambda x, y: torch.where(x > y, 0.0, y), "vn.where", {"roles": ["condition", "other"], "input": 0.0}),
        (lambda x, y: x.where(x > y, y), "vn.where", {"roles": ["input", "condition", "other"]}),
        (lambda x, y: x.where(x > y, other=-1), "vn.where", {"roles": ["input", "condition"], "other": -1}),
        (lambda x, y: x.masked_fill(x > y, 0), "vn.masked_fill", {"roles": ["input", "mask"], "value": 0}),
        (lambda x, y: torch.masked_fill(x, x > y, -math.inf), "vn.masked_fill", {"value": -math.inf}),
        (lambda x, y: x.masked_fill_(mask=x > y, value=2.5), "vn.masked_fill", {"value": 2.5}),
        (lambda x, y: x.masked_fill(x > y, y.mean()), "vn.masked_fill", {"roles": ["input", "mask", "value"]}),
    ],
)
def test_choices(function: Function, op: str, params: dict[str, Any]) -> None:
    pytest.importorskip("amc_op_pooling")
    found = nodes(captured(function))[-1]
    assert found[0] == op
    assert params.items() <= found[1].items()


class TwoBranches(nn.Module):
    """Two convolutions of 6 channels, joined, then a convolution."""

    def __init__(self, join: Callable[[Tensor, Tensor, nn.Parameter], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
        self.scale = nn.Parameter(torch.rand(6, 1, 1))
        self.join, self.last = join, nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.join(self.a(x), self.b(x), self.scale))


@pytest.mark.parametrize(
    ("join", "tied"),
    [
        (lambda a, b, s: a.abs() ** 1.5, False),
        (lambda a, b, s: torch.maximum(a, b), True),
        (lambda a, b, s: (1 + a.exp()).log() * b.abs().sqrt(), True),
        (lambda a, b, s: torch.where(a > b, a, 0.0), True),
        (lambda a, b, s: torch.where(a > 0, a, -1.0), False),
        (lambda a, b, s: a.masked_fill(a < 0.1, 7.0), False),
        (lambda a, b, s: a * (b > 0).float(), True),
        (lambda a, b, s: a * torch.addcmul(s, s, b), True),
        (lambda a, b, s: a.clamp(-s, s), False),
        (lambda a, b, s: (a * a + 1e-3).rsqrt() * b.neg(), True),
        (lambda a, b, s: 1 / (1 + (-a).exp()) + s.reciprocal(), False),
        (lambda a, b, s: a.double().type_as(b), False),
        (lambda a, b, s: (a % 0.5) * (a // 0.5), False),
        (lambda a, b, s: a * ~((a > 0) & (a < s)), False),
    ],
)
def test_channels(join: Callable[..., Tensor], tied: bool) -> None:
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    network = capture(TwoBranches(join), x, strict=True)
    free = [group.producers for group in channel_map(network).groups if not group.pinned and "last" in group.consumers]
    assert free == [("a", "b") if tied else ("a",)]
    for seed in range(2):
        smaller = assert_masked_equals_shrunk(network, x, seed=seed)
        assert smaller.layer("last").weight.shape == (2, 3, 1, 1)
        assert_rebuilds(smaller, x.double())


def test_a_condition_goes_with_what_it_chooses_from() -> None:
    """Zero channels give another truth value than absent ones; nothing reads it."""
    x = torch.rand(2, 3, 6, 6)
    network = capture(TwoBranches(lambda a, b, s: torch.where(a <= 0, b + 1, b)), x, strict=True)
    (group,) = [group for group in channel_map(network).groups if not group.pinned]
    assert group.producers == ("a", "b")
    assert_masked_equals_shrunk(network, x)


def test_a_conversion_follows_the_type_of_the_network() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1).half()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x.half()).float()
            return y

    x = torch.rand(1, 3, 4, 4)
    network = capture(Half(), x, strict=True)
    assert network(x).dtype == torch.float32
    exact = network.clone().double()
    assert exact(x).dtype == torch.float64
    assert [node.params["dtype"] for node in assert_rebuilds(exact, x).graph.nodes if node.op == "vn.cast"] == ["float64"] * 2
    assert torch.equal(make_layer("vn.cast", {"dtype": "int64"}, {})(x), x.long())


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x.round(decimals=1),
        lambda x, y: (x.long() & y.long()).float(),
        lambda x, y: (~x.long()).float(),
        lambda x, y: x.to(memory_format=torch.channels_last),
        lambda x, y: x * torch.where(x > 2)[0].sum(),
    ],
)
def test_variants_that_are_declined_still_run(function: Function) -> None:
    network = capture(Net(function), *example())
    assert "opaque" in [node.op for node in network.graph.nodes]
    assert torch.equal(network(*example()), function(*example()))
