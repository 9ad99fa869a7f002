"""Writing in place through views: recorded as new values of the view and of what it is a view of, and pruned as such."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.core.views import Link, write_back
from amc_plugins.graph import capture, channel_map
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Between(nn.Module):
    """A convolution, the function under test, and another convolution."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 1)
        self.act = nn.ReLU(inplace=True)
        self.flat = nn.Flatten(2)
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 8))

    def forward(self, x: Tensor) -> Any:
        return self.last(self.function(self, self.first(x)))


def a_slice(self: Any, x: Tensor) -> Tensor:
    x[:, 2:5].add_(1).mul_(2)
    return x


def strided(self: Any, x: Tensor) -> Tensor:
    x[:, ::2] += 1
    x[:, 1::2] *= x[:, ::2]
    return x


def a_view(self: Any, x: Tensor) -> Tensor:
    x.view(x.shape[0], -1).mul_(2)
    return x


def a_slice_in_a_view(self: Any, x: Tensor) -> Tensor:
    """The relative positions of MViT v2."""
    inner = x.transpose(2, 3)[:, :, 1:].unflatten(1, (2, 4))
    inner += 1.5
    return x * 2 + inner.flatten(1, 2).amax((2, 3), keepdim=True)


def permuted(self: Any, x: Tensor) -> Tensor:
    x.permute(0, 2, 3, 1).mul_(self.weight)
    return x


def pieces(self: Any, x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    a += b
    b.mul_(a)
    x.add_(1)
    return torch.cat([b, a], 1) + x


def unbound(self: Any, x: Tensor) -> Tensor:
    a, b = x.unflatten(1, (2, 4)).unbind(1)
    b.sub_(a)
    return x


def under_a_view(self: Any, x: Tensor) -> Tensor:
    first = x[:, :4]
    x.mul_(2)
    return torch.cat([first, x[:, 4:]], 1)


def layers(self: Any, x: Tensor) -> Tensor:
    self.act(x[:, :4])
    F.leaky_relu(self.flat(x), 0.3, inplace=True)
    return x


def copied(self: Any, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :4] = x[:, 4:]
    y[:, 4:].copy_(x[:, :4])
    return y


def data(self: Any, x: Tensor) -> Tensor:
    x.data.mul_(2)
    x.detach().add_(1)
    return x


@pytest.mark.parametrize(
    "function",
    [a_slice, strided, a_view, a_slice_in_a_view, permuted, pieces, unbound, under_a_view, layers, copied, data],
    ids=lambda function: function.__name__,
)
def test_recorded_and_pruned(function: Callable[[Any, Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, wide = torch.randn(2, 3, 6, 6, generator=generator), torch.randn(3, 3, 8, 9, generator=generator)
    model = Between(function).eval()
    network = capture(model, x, strict=True)
    with torch.no_grad():
        for given in (x, wide):
            assert torch.equal(network(given), model(given))
    assert_rebuilds(network, x)
    assert any(not group.pinned for group in channel_map(network).groups)
    for seed in range(3):
        assert_rebuilds(assert_masked_equals_shrunk(network, x, seed=seed), x.double())


def test_a_single_place_is_pinned_and_the_others_are_not() -> None:
    def one(self: Any, x: Tensor) -> Tensor:
        x[:, 3].mul_(2)
        return x

    groups = channel_map(capture(Between(one).eval(), torch.randn(2, 3, 6, 6))).groups
    first = [(len(group), bool(group.pinned)) for group in groups if group.producers == ("first",)]
    assert sorted(first) == [(1, True), (7, False)]


def test_a_constant_that_is_written_into_through_a_view() -> None:
    def function(self: Any, x: Tensor) -> Tensor:
        table = torch.zeros(8, 6)
        row = table[2:4]
        row += x.mean((0, 1, 2)) * 0.5
        return x + table[:, :6].sum(0)

    model, x = Between(function).eval(), torch.randn(2, 3, 6, 6)
    network = capture(model, x)
    other = torch.randn(5, 3, 6, 6)
    with torch.no_grad():
        assert torch.equal(network(other), model(other))


def test_views_that_cannot_be_written_back() -> None:
    x = torch.rand(4, 4)
    for name, view in (("torch.Tensor.diagonal", x.diagonal()), ("torch.Tensor.expand", x[:1].expand(4, 4))):
        assert write_back(Link(x, view, None, name, ((x,), {}), [view], lambda: None), view) is None
