"""Reductions, orderings and pooling over one and three axes: spellings, and which channels can go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, make_layer, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def image(*shape: int) -> Tensor:
    return torch.rand(shape or (2, 6, 4, 5), generator=torch.Generator().manual_seed(0)) - 0.3


def flat(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def captured(function: Callable[[Tensor], Any], x: Tensor) -> ReconstructedNetwork:
    network = capture(Net(function), x, strict=True)
    assert_rebuilds(network, x)
    for one, other in zip(flat(torch.fx.symbolic_trace(network)(x)), flat(function(x)), strict=True):
        assert torch.equal(one, other)
    assert profile(network).total_macs == 0
    return network


ALL = {"dim": None, "keepdim": False}
SPELLINGS: list[tuple[Callable[[Tensor], Any], str, dict[str, Any]]] = [
    (lambda x: x.sum(), "vn.sum", ALL),
    (lambda x: x.sum(1), "vn.sum", {"dim": [1], "keepdim": False}),
    (lambda x: torch.sum(x, (2, 3), keepdim=True), "vn.sum", {"dim": [2, 3], "keepdim": True}),
    (lambda x: x.sum(axis=-1, keepdims=True), "vn.sum", {"dim": [-1], "keepdim": True}),
    (lambda x: x.sum(1, dtype=torch.float32), "vn.sum", {"dim": [1]}),
    (lambda x: x.amax((2, 3)), "vn.amax", {"dim": [2, 3]}),
    (lambda x: torch.amax(x, dim=2, keepdim=True), "vn.amax", {"dim": [2], "keepdim": True}),
    (lambda x: x.amin(), "vn.amin", ALL),
    (lambda x: x.prod(2), "vn.prod", {"dim": [2]}),
    (torch.prod, "vn.prod", ALL),
    (lambda x: (x > 0.5).any(1), "vn.any", {"dim": [1]}),
    (lambda x: (x > 0).all(), "vn.all", ALL),
    (lambda x: x.logsumexp((1, 2)), "vn.logsumexp", {"dim": [1, 2]}),
    (lambda x: torch.logsumexp(x, dim=1, keepdim=True), "vn.logsumexp", {"dim": [1], "keepdim": True}),
    (lambda x: x.std(), "vn.std", {**ALL, "correction": 1}),
    (lambda x: x.std(1), "vn.std", {"dim": [1], "correction": 1}),
    (lambda x: x.std((2, 3), unbiased=False, keepdim=True), "vn.std", {"dim": [2, 3], "keepdim": True, "correction": 0}),
    (lambda x: x.var(False), "vn.var", {**ALL, "correction": 0}),
    (lambda x: torch.var(x, 1, True, True), "vn.var", {"dim": [1], "keepdim": True, "correction": 1}),
    (lambda x: torch.var(x, dim=1, correction=2), "vn.var", {"dim": [1], "correction": 2}),
    (lambda x: x.norm(), "vn.norm", {**ALL, "ord": 2}),
    (lambda x: x.norm(dim=1, keepdim=True), "vn.norm", {"dim": [1], "keepdim": True, "ord": 2}),
    (lambda x: x.norm(1, -1), "vn.norm", {"dim": [-1], "ord": 1}),
    (lambda x: torch.norm(x, p=float("inf"), dim=(1, 2)), "vn.norm", {"dim": [1, 2], "ord": float("inf")}),
    (lambda x: torch.linalg.norm(x, dim=1), "vn.norm", {"dim": [1], "ord": 2}),
    (lambda x: torch.linalg.norm(x, 3, dim=1), "vn.norm", {"dim": [1], "ord": 3}),
    (lambda x: torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True), "vn.norm", {"dim": [1, 2], "keepdim": True}),
    (lambda x: x.max(), "vn.max", ALL),
    (lambda x: x.max(1)[0], "vn.max", {"dim": 1}),
    (lambda x: tuple(torch.max(x, dim=2, keepdim=True)), "vn.max", {"dim": 2, "keepdim": True}),
    (lambda x: x.max(-1).indices, "vn.max", {"dim": -1}),
    (lambda x: torch.min(x, other=x * 0), "vn.min", ALL),
    (lambda x: torch.min(x, 1).values, "vn.min", {"dim": 1}),
    (lambda x: x.argmax(), "vn.argmax", ALL),
    (lambda x: torch.argmax(x, dim=1, keepdim=True), "vn.argmax", {"dim": 1, "keepdim": True}),
    (lambda x: x.argmin(-1), "vn.argmin", {"dim": -1}),
    (lambda x: x.cumsum(1), "vn.cumsum", {"dim": 1}),
    (lambda x: torch.cumprod(x, dim=-1), "vn.cumprod", {"dim": -1}),
    (lambda x: (x > 0).cumsum(2, dtype=torch.float32), "vn.cumsum", {"dim": 2, "dtype": "float32"}),
    (lambda x: x.sort()[0], "vn.sort", {"dim": -1, "descending": False}),
    (lambda x: tuple(torch.sort(x, 1, True)), "vn.sort", {"dim": 1, "descending": True}),
    (lambda x: torch.sort(x, stable=True, dim=2).values, "vn.sort", {"dim": 2, "stable": True}),
    (lambda x: x.argsort(1, descending=True), "vn.argsort", {"dim": 1, "descending": True}),
    (lambda x: x.topk(2)[1], "vn.topk", {"k": 2, "dim": -1, "largest": True}),
    (lambda x: tuple(torch.topk(x, k=3, dim=1, largest=False)), "vn.topk", {"k": 3, "dim": 1, "largest": False}),
]


@pytest.mark.parametrize(("function", "op", "params"), SPELLINGS)
def test_functions(function: Callable[[Tensor], Any], op: str, params: dict[str, Any]) -> None:
    x = (
        torch.cat([image(), image()]) if params.get("dim") is None else image()
    )  # over all entries: no other batch gives the same
    network = captured(function, x)
    found = next(node for node in network.graph.nodes if node.op == op)
    assert params.items() <= found.params.items()


POOLS: list[tuple[int, Callable[[Tensor], Tensor], str]] = [
    (1, lambda x: F.max_pool1d(x, 3, 2, 1), "vn.max_pool1d"),
    (1, nn.MaxPool1d(2, ceil_mode=True), "vn.max_pool1d"),
    (1, lambda x: F.avg_pool1d(x, (2,)), "vn.avg_pool1d"),
    (1, nn.AvgPool1d(3, 2, 1, count_include_pad=False), "vn.avg_pool1d"),
    (1, lambda x: torch.avg_pool1d(x, 2, 1), "vn.avg_pool1d"),
    (1, nn.AdaptiveAvgPool1d(2), "vn.adaptive_avg_pool1d"),
    (1, lambda x: torch.adaptive_avg_pool1d(x, 1), "vn.adaptive_avg_pool1d"),
    (1, lambda x: F.adaptive_max_pool1d(x, 3), "vn.adaptive_max_pool1d"),
    (3, lambda x: F.max_pool3d(x, (1, 2, 2), stride=2), "vn.max_pool3d"),
    (3, nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)), "vn.max_pool3d"),
    (3, lambda x: F.avg_pool3d(x, x.shape[2:]), "vn.avg_pool3d"),
    (3, nn.AvgPool3d(2, divisor_override=3), "vn.avg_pool3d"),
    (3, nn.AdaptiveAvgPool3d((1, None, 2)), "vn.adaptive_avg_pool3d"),
    (3, lambda x: F.adaptive_avg_pool3d(x, 1), "vn.adaptive_avg_pool3d"),
    (3, nn.AdaptiveMaxPool3d(2), "vn.adaptive_max_pool3d"),
]


class Between(nn.Module):
    """`middle` of the 8 channels of a convolution, and a last layer."""

    def __init__(self, rank: int, middle: Callable[[Tensor], Tensor], last: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank](3, 8, 1)
        self.middle, self.last = middle, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


@pytest.mark.parametrize(("rank", "pool", "op"), POOLS)
def test_pooling(rank: int, pool: Callable[[Tensor], Tensor], op: str) -> None:
    x = image(2, 3, *((6, 4, 6)[:rank]))
    last: Any = {1: nn.Conv1d, 3: nn.Conv3d}[rank](8, 2, 1)
    network = capture(Between(rank, pool, last), x, strict=True)
    assert_rebuilds(network, x)
    assert op in [node.op for node in network.graph.nodes]
    assert len(channel_map(network).group("first")) == 8
    assert_rebuilds(assert_masked_equals_shrunk(network, x), x.double())


def linear(size: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(size, 2)


def conv(size: int) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(size, 2, 1)


# what is done to 8 channels of 4 x 5, a last layer, whether the channels can go
CHANNELS: list[tuple[Callable[[Tensor], Tensor], Callable[[], nn.Module], bool]] = [
    (lambda x: x.sum((2, 3)), linear(8), True),
    (lambda x: x.sum(1, keepdim=True), conv(1), False),
    (lambda x: x.amax((2, 3)), linear(8), True),
    (lambda x: x * x.amax(1, keepdim=True), conv(8), False),
    (lambda x: x / x.std((2, 3), keepdim=True), conv(8), True),
    (lambda x: x - x.var(1, keepdim=True), conv(8), False),
    (lambda x: x / x.norm(dim=(2, 3), keepdim=True), conv(8), True),
    (lambda x: x / x.norm(dim=1, keepdim=True), conv(8), False),
    (lambda x: x.flatten(2).logsumexp(2), linear(8), True),
    (lambda x: x.max(3)[0].max(2)[0], linear(8), True),
    (lambda x: torch.max(x, x * 0.5), conv(8), True),
    (lambda x: x * (x.argmax(1, keepdim=True) + 1), conv(8), False),
    (lambda x: x * (x.argmax(2, keepdim=True) + 1), conv(8), True),
    (lambda x: x.cumsum(2), conv(8), True),
    (lambda x: x.cumsum(1), conv(8), False),
    (lambda x: x.flatten(2).topk(3)[0].mean(2), linear(8), True),
    (lambda x: x.flatten(2).mean(2).topk(3)[0], linear(3), False),
    (lambda x: x.sort(3)[0], conv(8), True),
    (lambda x: x.sort(1, descending=True)[0], conv(8), False),
    (lambda x: x.gather(3, x.argsort(3)), conv(8), True),
    (lambda x: x.view(-1, 2, 4, 4, 5).sum(1), conv(4), True),
]


@pytest.mark.parametrize(("middle", "last", "free"), CHANNELS)
def test_masked_equals_shrunk(middle: Callable[[Tensor], Tensor], last: Callable[[], nn.Module], free: bool) -> None:
    pytest.importorskip("amc_op_shape")
    x = image(2, 3, 4, 5)
    torch.manual_seed(1)
    network = capture(Between(2, middle, last()), x, strict=True)
    first = channel_map(network).group("first")
    assert bool(first.pinned) is not free
    assert free or " over them at test_op_pooling_reductions.py:" in first.pinned[0]
    for seed in range(2):
        smaller = assert_masked_equals_shrunk(network, x, seed=seed)
        assert_rebuilds(smaller, x.double())
        assert (smaller.layer("first").out_channels < 8) is free


def test_a_number_of_entries_that_is_computed() -> None:
    network = captured(lambda x: x.topk(x.shape[3] - 1)[0], image())
    assert network(image(1, 6, 4, 9)).shape == (1, 6, 4, 8)
    values, places = make_layer("vn.topk", {"k": 2, "dim": 1}, {})(image())
    assert torch.equal(values, image().gather(1, places))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum(1, dtype=torch.float64),
        lambda x: torch.linalg.norm(x, 2, dim=(2, 3)),
    ],
)
def test_variants_that_are_declined_still_run(function: Callable[[Tensor], Tensor]) -> None:
    network = capture(Net(function), image())
    assert [node.op for node in network.graph.nodes] == ["opaque"]
