"""The fully connected layer: spellings, document, MACs, channels, and the linear map that compressors fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from amc_plugins.graph import capture, channel_map, describe, handler_for, make_layer, profile, rebuild, tensors_of
from amc_plugins.handlers import AmcError, Kept, LinearMap
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


def digits(count: int) -> Tensor:
    return torch.tensor(load_digits().data[:count] / 16, dtype=torch.float64)


class Called(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(5), requires_grad=False)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.weight, self.bias)
        return y


@pytest.mark.parametrize(
    ("function", "bias"),
    [
        (F.linear, True),
        (lambda x, w, b: F.linear(x, w), False),
        (lambda x, w, b: F.linear(input=x, weight=w, bias=b), True),
        (lambda x, w, b: torch.nn.functional.linear(x, bias=None, weight=w), False),
    ],
)
@pytest.mark.parametrize("shape", [(3, 8), (3, 4, 8), (2, 3, 4, 8)])
def test_functional_calls_own_their_weights(function: Any, bias: bool, shape: tuple[int, ...]) -> None:
    model = Called(function).eval()
    x = torch.randn(shape)
    network = capture(model, x)
    (node,) = network.graph.nodes
    assert (node.op, node.params) == ("vn.linear", {"in_features": 8, "out_features": 5, "bias": bias})
    module = network.layer(node.layer)
    assert torch.equal(module.weight, model.weight) and module.weight.data_ptr() != model.weight.data_ptr()
    assert module.weight.requires_grad
    assert module.bias is None or not module.bias.requires_grad
    assert torch.equal(network(x), model(x))


def test_computed_weights_stay_opaque() -> None:
    model = Called(lambda x, w, b: F.linear(x, w * x.mean(), b)).eval()
    network = capture(model, torch.randn(3, 8))
    assert any("where a parameter was expected" in reason for reason in network.graph.metadata.values())


@pytest.mark.parametrize("bias", [True, False])
def test_the_document_gives_the_layer_back(bias: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 5, bias), nn.Linear(5, 3)).double().eval()
    x = torch.randn(4, 8, dtype=torch.float64)
    network = capture(model, x)
    document = describe(network)
    state = torch.get_rng_state()
    again = rebuild(document, tensors_of(network))
    assert torch.equal(torch.get_rng_state(), state), "building draws no random numbers"
    assert describe(again).to_json() == document.to_json()
    assert torch.equal(again(x), model(x))
    with pytest.raises(AmcError, match=r"weight has shape \(5, 8\), given was \(5, 7\)"):
        make_layer("vn.linear", {"in_features": 8, "out_features": 5, "bias": False}, {"weight": torch.zeros(5, 7)})


@pytest.mark.parametrize("shape", [(3, 8), (3, 4, 8), (2, 3, 4, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_macs_and_shapes_are_exact(shape: tuple[int, ...], bias: bool) -> None:
    module, x = nn.Linear(8, 5, bias), torch.randn(shape)
    handler = handler_for("vn.linear")
    params = handler.params(module)
    with FlopCounterMode(display=False) as counter:
        y = module(x)
    assert handler.shapes(params, [shape]) == [tuple(y.shape)]
    macs = handler.macs(params, [shape], [tuple(y.shape)])
    assert macs == x.numel() // 8 * 8 * 5
    assert 2 * macs == counter.get_total_flops()


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(64, 20), nn.Linear(20, 20, bias=False), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        y: Tensor = self.last(self.second(hidden))
        return y


def test_removed_features_shrink_both_sides() -> None:
    model, x = Perceptron().double().eval(), digits(100)
    network = capture(model, x)
    channels = channel_map(network)
    first, second = channels.group("first"), channels.group("second")
    assert (len(first), first.consumers, first.pinned) == (20, ("second",), ())
    assert channels.group("last").pinned == ("an output of the network",)
    assert profile(network, x[:1]).total_macs == 64 * 20 + 20 * 20 + 20 * 10
    small = channels.shrink(torch.cat([first.ids[::2], second.ids[5:]]))
    assert profile(small, x[:1]).total_macs == 64 * 10 + 10 * 5 + 5 * 10
    with torch.no_grad():
        model.second.weight[:, ::2] = 0
        model.last.weight[:, 5:] = 0
        assert (small(x) - model(x)).abs().max() < 1e-10


def test_keep_equals_the_masked_layer_on_any_rank() -> None:
    handler, module = handler_for("vn.linear"), nn.Linear(8, 5).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    left_in, left_out = torch.tensor([0, 3, 7]), torch.tensor([1, 4])
    small = handler.keep(module, [Kept((2, 3, 8), {2: left_in})], [Kept((2, 3, 5), {2: left_out})])
    masked = torch.zeros_like(x)
    masked[..., left_in] = x[..., left_in]
    assert (small(x[..., left_in]) - module(masked)[..., left_out]).abs().max() < 1e-12
    assert (small.in_features, small.out_features) == (3, 2)
    rows = handler.keep(module, [Kept((2, 3, 8), {1: torch.tensor([0])})], [Kept((2, 3, 5), {1: torch.tensor([0])})])
    assert torch.equal(rows.weight, module.weight), "another axis than the last is not the layer's business"


def linear_map(module: nn.Module) -> LinearMap:
    found = handler_for("vn.linear").linear(module)
    assert found is not None
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("per_sample", [None, 3])
@pytest.mark.parametrize("shape", [(6, 8), (6, 5, 8), (6, 2, 4, 8)])
def test_rows_give_the_responses(shape: tuple[int, ...], per_sample: int | None, bias: bool) -> None:
    module, x = nn.Linear(8, 5, bias), torch.randn(shape)
    y = module(x).detach()
    one = linear_map(module)
    positions = one.positions(tuple(y.shape), per_sample, torch.Generator().manual_seed(1))
    size = x[0].numel() // 8
    assert len(positions) == 6 * (size if per_sample is None else min(size, per_sample))
    assert (positions.diff() > 0).all()
    response = one.patches(x, positions) @ one.weight.T + (0 if one.bias is None else one.bias)
    assert (response - one.responses(y, positions)).abs().max() < 1e-5
    assert (one.taps, one.groups, one.input_axis) == (1, 1, -1)


def test_sampled_rows_are_uniform() -> None:
    draw = linear_map(nn.Linear(3, 3)).positions((600, 10, 3), 2, torch.Generator().manual_seed(4)).view(600, 2)
    counts = (draw % 10).flatten().bincount(minlength=10).double()
    assert ((counts - 120) ** 2 / 120).sum() < 34  # chi-square with 9 degrees of freedom: 1 in 10^4
    assert torch.equal(draw // 10, torch.arange(600)[:, None].expand(600, 2))


def test_rebuilt_layers_follow_their_weights() -> None:
    one = linear_map(nn.Linear(8, 5))
    fewer = one.rebuilt(one.weight[:2, :3], None)
    assert isinstance(fewer, nn.Linear)
    assert (fewer.in_features, fewer.out_features, fewer.bias) == (3, 2, None)
    x = torch.randn(4, 3)
    assert torch.equal(fewer(x), x @ one.weight[:2, :3].T)


def test_functional_layers_on_parameters_lose_their_features() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.hidden, self.shift = nn.Parameter(torch.randn(12, 64) / 8), nn.Parameter(torch.randn(12))
            self.classes = nn.Parameter(torch.randn(10, 12))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(torch.relu(F.linear(x, self.hidden, self.shift)), self.classes)

    network = capture(Functional().eval(), digits(20).float(), strict=True)
    channels = channel_map(network)
    group = channels.group("linear_0")
    assert (len(group), group.consumers, group.pinned) == (12, ("linear_1",), ())
    smaller = assert_masked_equals_shrunk(network, digits(20), removed=group.ids[[0, 4, 5, 11]])
    assert smaller.layer("linear_0").weight.shape == (8, 64) and smaller.layer("linear_1").weight.shape == (10, 8)
    assert_rebuilds(smaller, digits(20))
