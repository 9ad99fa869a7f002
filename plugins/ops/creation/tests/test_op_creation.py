"""Tensors made inside a network: spellings, sizes that follow the input, types that follow the network, channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def image(*shape: int) -> Tensor:
    return torch.rand(shape or (2, 4, 3, 5), generator=torch.Generator().manual_seed(0))


def flat(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def captured(function: Callable[[Tensor], Any]) -> ReconstructedNetwork:
    """Captured (which compares two batch sizes), rebuilt, and run on another image size."""
    network = capture(Net(function), image(), strict=True)
    again = assert_rebuilds(network, image())
    other = image(3, 4, 6, 2)
    for one, expected in zip(flat(again(other)), flat(function(other)), strict=True):
        assert torch.equal(one, expected) and one.dtype == expected.dtype
    assert profile(network).total_macs == 0
    return network


@pytest.mark.parametrize(
    ("function", "op", "params"),
    [
        (lambda x: torch.zeros(x.shape), "vn.full", {"value": 0, "dtype": "float32"}),
        (lambda x: torch.zeros(x.shape[0], 3, device=x.device), "vn.full", {"value": 0}),
        (lambda x: torch.ones(size=(x.shape[2], 2), dtype=torch.int64), "vn.full", {"value": 1, "dtype": "int64"}),
        (lambda x: torch.full((x.shape[0], x.shape[3]), 0.5), "vn.full", {"value": 0.5, "dtype": "float32"}),
        (lambda x: torch.full(x.shape[2:], 3), "vn.full", {"value": 3, "dtype": "int64"}),
        (lambda x: torch.full(x.shape[2:], fill_value=True), "vn.full", {"value": True, "dtype": "bool"}),
        (torch.zeros_like, "vn.full_like", {"value": 0, "size": None, "dtype": None}),
        (lambda x: torch.ones_like(x, dtype=torch.bool), "vn.full_like", {"value": 1, "dtype": "bool"}),
        (lambda x: torch.full_like(x, 0.25), "vn.full_like", {"value": 0.25}),
        (lambda x: torch.full_like(input=x, fill_value=2, dtype=torch.float64), "vn.full_like", {"dtype": "float64"}),
        (lambda x: x.new_zeros(x.shape[0], 2), "vn.full_like", {"value": 0}),
        (lambda x: x.new_ones((x.shape[3], 2), dtype=torch.int32), "vn.full_like", {"value": 1, "dtype": "int32"}),
        (lambda x: x.new_zeros(3), "vn.full_like", {"size": [3]}),
        (lambda x: x.new_full((2, x.shape[2]), 7.0), "vn.full_like", {"value": 7.0}),
        (lambda x: x.clone().zero_() + x, "vn.full_like", {"value": 0}),
        (lambda x: x.clone().fill_(2) * x, "vn.full_like", {"value": 2}),
        (lambda x: torch.arange(x.shape[2]), "vn.arange", {"start": 0, "step": 1, "dtype": "int64"}),
        (lambda x: torch.arange(1, x.shape[2] + 1, dtype=torch.float32), "vn.arange", {"start": 1, "dtype": "float32"}),
        (lambda x: torch.arange(end=x.shape[3]), "vn.arange", {"start": 0}),
        (lambda x: torch.arange(0.5, x.shape[3], 2), "vn.arange", {"start": 0.5, "step": 2, "dtype": "float32"}),
        (lambda x: torch.linspace(-1, 1, x.shape[3]), "vn.linspace", {"start": -1, "end": 1, "dtype": "float32"}),
        (lambda x: torch.linspace(0, x.shape[2] - 1, steps=4, dtype=torch.float64), "vn.linspace", {"steps": 4}),
        (lambda x: torch.tensor([x.shape[3], x.shape[2] - 1]), "vn.tensor", {"dtype": "int64"}),
        (lambda x: torch.tensor([[x.shape[3], 0.5]], device=x.device), "vn.tensor", {"dtype": "float32"}),
        (lambda x: torch.eye(x.shape[2]), "vn.eye", {"dtype": "float32"}),
        (lambda x: torch.eye(x.shape[2], m=3, dtype=torch.int64), "vn.eye", {"m": 3, "dtype": "int64"}),
        (lambda x: torch.meshgrid(x[0, 0, 0], x[0, 0, :, 0], indexing="ij"), "vn.meshgrid", {"indexing": "ij"}),
        (lambda x: torch.meshgrid([x[0, 0, 0], x[0, 0, :, 0]], indexing="xy")[1], "vn.meshgrid", {"indexing": "xy"}),
        (lambda x: x.tril(), "vn.tril", {"diagonal": 0}),
        (lambda x: torch.triu(x, diagonal=1), "vn.triu", {"diagonal": 1}),
        (lambda x: F.one_hot((3 * x).long(), 5), "vn.one_hot", {"num_classes": 5}),
    ],
)
def test_functions(function: Callable[[Tensor], Any], op: str, params: dict[str, Any]) -> None:
    pytest.importorskip("amc_op_arithmetic")
    found = next(node for node in captured(function).graph.nodes if node.op == op)
    assert params.items() <= found.params.items()


def test_what_is_made_of_numbers_alone_is_a_constant() -> None:
    network = capture(Net(lambda x: x + torch.arange(5) * torch.ones(3, 1)), image(), strict=True)
    assert [node.op for node in network.graph.nodes] == ["vn.constant", "vn.add"]


def test_types_follow_the_network() -> None:
    def function(x: Tensor) -> Tensor:
        return x + torch.zeros(x.shape) + torch.arange(x.shape[3]).float() + torch.linspace(0, 1, x.shape[3])

    pytest.importorskip("amc_op_arithmetic")
    exact = capture(Net(function), image(), strict=True).double()
    assert exact(image().double()).dtype == torch.float64
    half = capture(Net(function), image(), strict=True).half()
    assert half(image().half()).dtype == torch.float16
    expected = image().double() + torch.arange(5) + torch.linspace(0, 1, 5, dtype=torch.float64)
    assert (exact(image().double()) - expected).abs().max() < 1e-12


class Between(nn.Module):
    def __init__(self, middle: Callable[[Tensor], Tensor], last: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Conv2d(4, 8, 1), middle, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def coordinates(x: Tensor) -> Tensor:
    """Two more channels, the coordinates of the pixels."""
    rows = torch.linspace(-1, 1, x.shape[2])
    columns = torch.linspace(-1, 1, x.shape[3])
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(x.shape[0], -1, -1, -1)
    return torch.cat([x, grid], 1)


@pytest.mark.parametrize(
    ("middle", "last", "free"),
    [
        (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), lambda: nn.Conv2d(8, 2, 1), 8),
        (lambda x: x + torch.zeros(x.shape), lambda: nn.Conv2d(8, 2, 1), 0),
        (lambda x: x + x.new_ones(x.shape[2], 1), lambda: nn.Conv2d(8, 2, 1), 8),
        (lambda x: x * torch.arange(x.shape[3]), lambda: nn.Conv2d(8, 2, 1), 8),
        (coordinates, lambda: nn.Conv2d(10, 2, 1), 8),
        (lambda x: x.tril(), lambda: nn.Conv2d(8, 2, 1), 8),
        (lambda x: x.permute(0, 2, 3, 1).triu().permute(0, 3, 1, 2), lambda: nn.Conv2d(8, 2, 1), 0),
    ],
)
def test_channels(middle: Callable[[Tensor], Tensor], last: Callable[[], nn.Module], free: int) -> None:
    for needed in ("amc_op_arithmetic", "amc_op_shape"):
        pytest.importorskip(needed)
    network = capture(Between(middle, last()), image(), strict=True)
    first = channel_map(network).group("first")
    assert (0 if first.pinned or len(first) == 1 else len(first)) == free
    for seed in range(2):
        smaller = assert_masked_equals_shrunk(network, image(), seed=seed)
        assert_rebuilds(smaller, image().double())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.zeros_like(x, requires_grad=True) * x,
        lambda x: x + F.one_hot((x[:, :, :, 0] > 0.5).long()).sum(),
    ],
)
def test_variants_that_are_declined_still_run(function: Callable[[Tensor], Any]) -> None:
    network = capture(Net(function), image())
    assert "opaque" in [node.op for node in network.graph.nodes]
