"""Every spelling of every activation becomes one node of its op, and gives the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture, describe, rebuild, tensors_of

Function = Callable[[Tensor], Tensor]


class Applied(nn.Module):
    """A convolution and what is done to its result."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3)
        self.conv.weight.data *= 8  # so that every piece of an activation is met
        self.slopes = nn.Parameter(torch.linspace(0.05, 0.5, 6))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.function(self, y) if getattr(self.function, "__name__", "") == "with_owner" else self.function(y)


def owner(function: Callable[[Applied, Tensor], Tensor]) -> Any:
    def with_owner(network: Applied, y: Tensor) -> Tensor:
        return function(network, y)

    return with_owner


SPELLINGS: list[tuple[str, dict[str, Any], Any]] = [
    ("relu", {}, nn.ReLU()),
    ("relu", {}, nn.ReLU(inplace=True)),
    ("relu", {}, F.relu),
    ("relu", {}, lambda y: F.relu(y, True)),
    ("relu", {}, lambda y: F.relu(input=y, inplace=True)),
    ("relu", {}, F.relu_),
    ("relu", {}, torch.relu),
    ("relu", {}, lambda y: torch.relu(input=y)),
    ("relu", {}, torch.relu_),
    ("relu", {}, lambda y: y.relu()),
    ("relu", {}, lambda y: y.relu_()),
    ("relu6", {}, nn.ReLU6()),
    ("relu6", {}, nn.ReLU6(inplace=True)),
    ("relu6", {}, F.relu6),
    ("relu6", {}, lambda y: F.relu6(input=y, inplace=True)),
    ("leaky_relu", {"negative_slope": 0.2}, nn.LeakyReLU(0.2, inplace=True)),
    ("leaky_relu", {"negative_slope": 0.01}, F.leaky_relu),
    ("leaky_relu", {"negative_slope": 0.2}, lambda y: F.leaky_relu(y, 0.2, True)),
    ("leaky_relu", {"negative_slope": 0.2}, lambda y: F.leaky_relu(input=y, negative_slope=0.2)),
    ("leaky_relu", {"negative_slope": 0.2}, lambda y: F.leaky_relu_(y, 0.2)),
    ("elu", {"alpha": 0.5}, nn.ELU(0.5, inplace=True)),
    ("elu", {"alpha": 0.5}, lambda y: F.elu(y, alpha=0.5)),
    ("elu", {"alpha": 0.5}, lambda y: F.elu(y, 0.5, True)),
    ("elu", {"alpha": 1.0}, F.elu_),
    ("silu", {}, nn.SiLU(inplace=True)),
    ("silu", {}, F.silu),
    ("silu", {}, lambda y: F.silu(y, inplace=True)),
    ("gelu", {"approximate": "none"}, nn.GELU()),
    ("gelu", {"approximate": "tanh"}, nn.GELU("tanh")),
    ("gelu", {"approximate": "none"}, F.gelu),
    ("gelu", {"approximate": "tanh"}, lambda y: F.gelu(y, approximate="tanh")),
    ("hardswish", {}, nn.Hardswish(inplace=True)),
    ("hardswish", {}, F.hardswish),
    ("hardswish", {}, lambda y: F.hardswish(y, inplace=True)),
    ("hardsigmoid", {}, nn.Hardsigmoid(inplace=True)),
    ("hardsigmoid", {}, F.hardsigmoid),
    ("hardsigmoid", {}, lambda y: F.hardsigmoid(y, True)),
    ("hardtanh", {"min_val": -2.0, "max_val": 0.5}, nn.Hardtanh(-2, 0.5, inplace=True)),
    ("hardtanh", {"min_val": -1.0, "max_val": 1.0}, F.hardtanh),
    ("hardtanh", {"min_val": -2.0, "max_val": 0.5}, lambda y: F.hardtanh(y, -2, 0.5, True)),
    ("hardtanh", {"min_val": -2.0, "max_val": 0.5}, lambda y: F.hardtanh(y, min_val=-2, max_val=0.5)),
    ("hardtanh", {"min_val": -2.0, "max_val": 0.5}, lambda y: F.hardtanh_(y, -2, 0.5)),
    ("mish", {}, nn.Mish(inplace=True)),
    ("mish", {}, lambda y: F.mish(y, inplace=True)),
    ("softplus", {"beta": 1.0, "threshold": 20.0}, nn.Softplus()),
    ("softplus", {"beta": 2.0, "threshold": 3.0}, lambda y: F.softplus(y, beta=2, threshold=3)),
    ("softsign", {}, nn.Softsign()),
    ("softsign", {}, F.softsign),
    ("logsigmoid", {}, nn.LogSigmoid()),
    ("logsigmoid", {}, F.logsigmoid),
    ("celu", {"alpha": 0.5}, nn.CELU(0.5, inplace=True)),
    ("celu", {"alpha": 0.5}, lambda y: F.celu(y, 0.5)),
    ("celu", {"alpha": 1.0}, torch.celu_),
    ("selu", {}, nn.SELU(inplace=True)),
    ("selu", {}, F.selu),
    ("selu", {}, torch.selu),
    ("hardshrink", {"lambd": 0.25}, nn.Hardshrink(0.25)),
    ("hardshrink", {"lambd": 0.25}, lambda y: y.hardshrink(0.25)),
    ("softshrink", {"lambd": 0.5}, F.softshrink),
    ("tanhshrink", {}, nn.Tanhshrink()),
    ("tanhshrink", {}, F.tanhshrink),
    ("glu", {"dim": 1}, nn.GLU(1)),
    ("glu", {"dim": 1}, lambda y: F.glu(y, dim=1)),
    ("tanh", {}, nn.Tanh()),
    ("tanh", {}, F.tanh),
    ("tanh", {}, torch.tanh),
    ("tanh", {}, torch.tanh_),
    ("tanh", {}, lambda y: y.tanh()),
    ("tanh", {}, lambda y: y.tanh_()),
    ("sigmoid", {}, nn.Sigmoid()),
    ("sigmoid", {}, F.sigmoid),
    ("sigmoid", {}, torch.sigmoid),
    ("sigmoid", {}, torch.sigmoid_),
    ("sigmoid", {}, torch.special.expit),
    ("sigmoid", {}, lambda y: y.sigmoid()),
    ("sigmoid", {}, lambda y: y.sigmoid_()),
    ("prelu", {"num_parameters": 1}, nn.PReLU()),
    ("prelu", {"num_parameters": 6}, nn.PReLU(6, 0.3)),
    ("prelu", {"num_parameters": 6}, owner(lambda network, y: F.prelu(y, network.slopes))),
    ("prelu", {"num_parameters": 6}, owner(lambda network, y: torch.prelu(input=y, weight=network.slopes))),
    ("prelu", {"num_parameters": 6}, owner(lambda network, y: y.prelu(network.slopes))),
    ("softmax", {"dim": 1}, nn.Softmax(1)),
    ("softmax", {"dim": -3}, nn.Softmax2d()),
    ("softmax", {"dim": -1}, lambda y: F.softmax(y, -1)),
    ("softmax", {"dim": 2}, lambda y: F.softmax(input=y, dim=2)),
    ("softmax", {"dim": 2}, lambda y: torch.softmax(y, 2)),
    ("softmax", {"dim": 2}, lambda y: torch.special.softmax(y, dim=2)),
    ("softmax", {"dim": 2}, lambda y: y.softmax(2)),
    ("softmax", {"dim": 2}, lambda y: y.softmax(dim=2)),
    ("log_softmax", {"dim": 1}, nn.LogSoftmax(1)),
    ("log_softmax", {"dim": 1}, lambda y: F.log_softmax(y, 1)),
    ("log_softmax", {"dim": 1}, lambda y: F.log_softmax(y, dim=1)),
    ("log_softmax", {"dim": 1}, lambda y: torch.log_softmax(y, 1)),
    ("log_softmax", {"dim": 1}, lambda y: torch.special.log_softmax(y, 1)),
    ("log_softmax", {"dim": 1}, lambda y: y.log_softmax(dim=1)),
    ("dropout", {"p": 0.3, "spatial": False, "rank": 2}, nn.Dropout(0.3)),
    ("dropout", {"p": 0.3, "spatial": False, "rank": 2}, nn.Dropout(0.3, inplace=True)),
    ("dropout", {"p": 0.3, "spatial": True, "rank": 2}, nn.Dropout2d(0.3, inplace=True)),
    ("dropout", {"p": 0.5, "spatial": False, "rank": 2}, owner(lambda network, y: F.dropout(y, training=network.training))),
    ("dropout", {"p": 0.3, "spatial": False, "rank": 2}, owner(lambda network, y: F.dropout(y, 0.3, network.training, True))),
    (
        "dropout",
        {"p": 0.3, "spatial": True, "rank": 2},
        owner(lambda network, y: F.dropout2d(y, p=0.3, training=network.training)),
    ),
    ("dropout", {"p": 0.3, "spatial": False, "rank": 2}, owner(lambda network, y: torch.dropout(y, 0.3, network.training))),
    (
        "dropout",
        {"p": 0.3, "spatial": False, "rank": 2},
        owner(lambda network, y: torch.dropout_(y, p=0.3, train=network.training)),
    ),
    (
        "dropout",
        {"p": 0.3, "spatial": True, "rank": 2},
        owner(lambda network, y: torch.feature_dropout(y, 0.3, network.training)),
    ),
    (
        "dropout",
        {"p": 0.3, "spatial": True, "rank": 2},
        owner(lambda network, y: torch.feature_dropout_(y, 0.3, network.training)),
    ),
    ("dropout", {"p": 0.3, "spatial": True, "rank": 3}, nn.Dropout3d(0.3)),
    ("identity", {"effect": "none"}, nn.Identity()),
    ("identity", {"effect": "none"}, lambda y: +y),
    ("identity", {"effect": "detach"}, lambda y: y.data),
    ("identity", {"effect": "contiguous"}, lambda y: y.clone()),
    ("identity", {"effect": "contiguous"}, torch.clone),
    ("identity", {"effect": "contiguous"}, lambda y: y.clone(memory_format=torch.contiguous_format)),
    ("identity", {"effect": "detach"}, lambda y: y.detach()),
    ("identity", {"effect": "detach"}, torch.detach),
    ("identity", {"effect": "detach"}, lambda y: y.detach_()),
]


def nodes(network: ReconstructedNetwork, op: str) -> list[Any]:
    return [node for node in network.graph.nodes if node.op == f"vn.{op}"]


@pytest.mark.parametrize(("op", "params", "function"), SPELLINGS, ids=[f"{i}-{one[0]}" for i, one in enumerate(SPELLINGS)])
def test_every_spelling_is_one_node_of_its_op(op: str, params: dict[str, Any], function: Any) -> None:
    model = Applied(function).eval()
    x = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    network = capture(model, x)
    (node,) = nodes(network, op)
    assert node.params == params
    assert len(network.graph.nodes) == 2
    module = network.layer(node.layer)
    assert getattr(module, "inplace", False) is False
    expected = model(x.clone())
    assert torch.equal(network(x), expected)
    document = describe(network)
    again = rebuild(document, tensors_of(network))
    assert torch.equal(again(x), expected)
    assert describe(again).to_json() == document.to_json()


def test_in_place_activations_do_not_reach_other_readers() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(x)
            z = torch.tanh(y)
            return z, self.act(y)

    model = Shared().eval()
    x = torch.randn(2, 3, 5, 5)
    network = capture(model, x)
    for given, expected in zip(network(x), model(x), strict=True):
        assert torch.equal(given, expected)
    assert model.act.inplace, "the user's model is not changed"


def test_contiguous_keeps_a_later_view_working() -> None:
    class Shuffle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y.transpose(1, 2).contiguous()

    network = capture(Shuffle().eval(), torch.randn(2, 3, 5, 5))
    (node,) = nodes(network, "identity")
    assert node.params == {"effect": "contiguous"}
    assert network(torch.randn(2, 3, 5, 5)).is_contiguous()


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize(("shape", "dim"), [((2, 5), 1), ((2, 5, 3), 0), ((2, 5, 3, 3), 1)])
def test_softmax_without_an_axis_takes_the_one_torch_takes(shape: tuple[int, ...], dim: int) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Softmax(), nn.LogSoftmax()

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x) + F.softmax(x))

    x = torch.randn(shape)
    if dim == 0:
        x = torch.cat([x, x.flip(0)])  # softmax over the batch: no other batch size gives the same
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = capture(Last(), x)
    assert [node.params["dim"] for node in (*nodes(network, "softmax"), *nodes(network, "log_softmax"))] == [dim] * 3


def test_dropout_follows_the_mode_of_the_network() -> None:
    model = Applied(owner(lambda network, y: F.dropout(y, 0.5, network.training)))
    x = torch.randn(4, 3, 9, 9)
    network = capture(model, x)
    dropped = (network.train()(x) == 0).double().mean().item()
    assert 0.4 < dropped < 0.6
    assert (network.eval()(x) == 0).double().mean().item() < 0.01
    spatial = capture(Applied(nn.Dropout2d(0.5)), x).train()(x)
    whole = (spatial == 0).flatten(2).double().mean(2)
    assert set(whole.unique().tolist()) == {0.0, 1.0}, "whole channels are dropped"


def test_detach_stops_gradients_and_clone_does_not() -> None:
    x = torch.randn(2, 3, 5, 5)
    cases: list[tuple[Function, bool]] = [(lambda y: y.detach(), False), (lambda y: y.clone(), True)]
    for function, expected in cases:
        network = capture(Applied(function), x)
        assert network(x).requires_grad is expected


def test_a_frozen_prelu_stays_frozen() -> None:
    module = nn.PReLU(6)
    module.weight.requires_grad_(False)
    network = capture(Applied(module), torch.randn(1, 3, 5, 5))
    (node,) = nodes(network, "prelu")
    assert not network.layer(node.layer).weight.requires_grad
    learnt = capture(Applied(owner(lambda own, y: F.prelu(y, own.slopes))), torch.randn(1, 3, 5, 5))
    (node,) = nodes(learnt, "prelu")
    assert learnt.layer(node.layer).weight.requires_grad
