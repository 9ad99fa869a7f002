"""What is computed from parameters alone, and tensors that are written into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.graph import ReconstructedNetwork, capture, channel_map
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Net(nn.Module):
    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.frozen = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.rand(4, 1, 1), requires_grad=False)
        self.table, self.index = nn.Parameter(torch.rand(5, 4)), torch.tensor([[0, 3], [4, 4]])
        self.function = function
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, x))


def standardised(n: Any, x: Tensor) -> Tensor:
    """As timm's standardised convolutions compute their weights."""
    weight = F.batch_norm(n.weight.reshape(1, 4, -1), None, None, training=True, momentum=0.0, eps=1e-5)
    return F.conv2d(x, weight.reshape_as(n.weight), padding=1)


def biased(n: Any, x: Tensor) -> Tensor:
    """As Swin looks up its position bias."""
    bias = n.table[n.index.view(-1)].view(2, 2, -1).permute(2, 0, 1)
    return (F.conv2d(x, n.weight, padding=1) + bias.repeat(1, 3, 2)[None]) * n.frozen.exp()


def half_zeroed(n: Any, x: Tensor) -> Tensor:
    """As Swin V2 clears a part of a bias, in place and through a view."""
    bias = n.table[0].clone()
    bias[1:3].zero_()
    return F.conv2d(x, n.weight, bias, padding=1)


def image() -> Tensor:
    return torch.rand(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))


def constants_of(network: ReconstructedNetwork) -> list[str]:
    return [node.layer for node in network.graph.nodes if node.op == "vn.constant"]


def constants(network: ReconstructedNetwork) -> list[nn.Module]:
    return [network.layer(layer) for layer in constants_of(network)]


@pytest.mark.parametrize("function", [standardised, half_zeroed])
def test_weights_made_of_parameters_belong_to_the_layer(function: Any) -> None:
    model = Net(function).eval()
    network = capture(model, image(), strict=True)
    assert [node.op for node in network.graph.nodes] == ["vn.conv2d", "vn.conv2d"]
    layer = network.layer(network.graph.nodes[0].layer)
    assert all(parameter.requires_grad for parameter in layer.parameters())
    assert not any(parameter.grad_fn for parameter in network.parameters())
    assert torch.equal(network(image()), model(image()))
    assert_rebuilds(network, image())
    assert_masked_equals_shrunk(network, image())


def test_other_uses_become_constants() -> None:
    model = Net(biased).eval()
    network = capture(model, image(), strict=True)
    bias, scale = constants(network)
    assert bias.get_parameter("value").shape == (1, 4, 6, 4) and bias.get_parameter("value").requires_grad
    assert not scale.get_buffer("value").requires_grad and torch.equal(scale.get_buffer("value"), model.frozen.exp())
    assert_rebuilds(network, image())
    assert len(channel_map(network).group("conv2d_0")) == 4
    assert_masked_equals_shrunk(network, image())


class Biased(nn.Module):
    """Attention with a position bias: a parameter, a view of one, or computed from one."""

    def __init__(self, bias: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bias, self.table = bias, nn.Parameter(torch.randn(4, 49, 49))

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x.flip(-1), x.flip(-2), attn_mask=self.bias(self.table))


@pytest.mark.parametrize(
    ("bias", "computed"),
    [
        (lambda table: table, False),
        (lambda table: table[None], False),
        (lambda table: table.permute(1, 2, 0).contiguous().permute(2, 0, 1), True),
        (lambda table: table.detach(), True),
    ],
    ids=["parameter", "view", "computed", "detached"],
)
@pytest.mark.parametrize("gradients", [False, True])
def test_a_bias_requires_gradients_where_the_original_does(bias: Any, computed: bool, gradients: bool) -> None:
    """The kernel of attention, and with it the last bits, depends on whether its bias requires gradients."""
    model = Biased(bias).eval()
    x = torch.randn(2, 4, 49, 32, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(gradients), amc.capturing(model, strict=True) as boundary:
        model(x)
    network = boundary.network
    (constant,) = constants(network)
    assert constant.get_parameter("value").requires_grad
    if not gradients:
        assert network.node(constants_of(network)[0]).params["computed"] is computed
    with torch.no_grad():
        assert torch.equal(network(x), model(x))
    network(x).sum().backward()
    assert constant.get_parameter("value").grad is not None
    assert_rebuilds(network, x)


def test_the_users_tensors_are_left_alone() -> None:
    model = Net(standardised)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept: list[Tensor] = []

    def keeping(n: Any, x: Tensor) -> Tensor:
        kept.append(n.weight * 2)
        return F.conv2d(x, kept[-1], padding=1)

    model.function = keeping
    capture(model, image(), strict=True)
    assert not any(one.requires_grad for one in kept)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_constant_that_is_written_into_is_read_as_it_was() -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        made = torch.zeros(4, 6, 4)
        made[1:3] += 1
        first = F.conv2d(x, n.weight, padding=1) + made
        made[0] = 5  # nothing that the network computes: another constant from here on
        sum_ = torch.ones(2, 4, 6, 4)[: x.shape[0]]
        return first * made + sum_

    network = capture(Net(function).eval(), image(), strict=True)
    assert_rebuilds(network, image())
    assert [float(one.get_buffer("value").sum()) for one in constants(network)] == [48.0, 192.0, 48.0 + 5 * 24]


def test_a_constant_in_place_of_a_sum() -> None:
    def function(n: Any, x: Tensor) -> Tensor:
        total = torch.full((2, 4, 6, 4), 0.5)
        for _ in range(2):
            total += F.conv2d(x, n.weight, padding=1)
        return total

    model = Net(function).eval()
    network = capture(model, image(), strict=True)
    assert_rebuilds(network, image())
    (start,) = constants(network)
    assert float(start.get_buffer("value").unique()) == 0.5
