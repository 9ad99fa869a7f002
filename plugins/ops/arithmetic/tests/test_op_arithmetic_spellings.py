"""Every spelling becomes the right node, gives the same bits and survives its document."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from amc_op_arithmetic import ElemAdd, ElemDiv, ElemMul, ElemSub
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture, make_layer
from amc_plugins.testing import assert_rebuilds

SHAPE = (2, 4, 3, 5)
PLAIN = {"other": None, "reversed": False}


class Net(nn.Module):
    """Two inputs, copied first: in-place operations must not reach the caller's tensors."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x.clone(), y)


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(SHAPE, generator=generator) + 0.5, torch.rand(SHAPE, generator=generator) + 0.5


def captured(function: Callable[[Tensor, Tensor], Tensor]) -> ReconstructedNetwork:
    """Captured (which compares the bits, also on a second batch size), rebuilt from JSON, and traced."""
    network = capture(Net(function), *example(), strict=True)
    assert_rebuilds(network, *example())
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(*example()), network(*example()))
    return network


def only(network: ReconstructedNetwork, op: str) -> dict[str, Any]:
    (node,) = [node for node in network.graph.nodes if node.op not in ("vn.identity", "vn.size", "vn.int", "vn.constant")]
    assert node.op == op
    return node.params


@pytest.mark.parametrize(
    ("function", "op", "params"),
    [
        (lambda x, y: x + y, "vn.add", {}),
        (lambda x, y: x.add(y), "vn.add", {}),
        (lambda x, y: x.add(other=y, alpha=2), "vn.add", {"alpha": 2}),
        (lambda x, y: x.add_(y), "vn.add", {}),
        (lambda x, y: x.add_(y, alpha=0.5), "vn.add", {"alpha": 0.5}),
        (lambda x, y: x.__add__(y), "vn.add", {}),
        (lambda x, y: x.__radd__(y), "vn.add", {}),
        (lambda x, y: x.__iadd__(y), "vn.add", {}),
        (operator.iadd, "vn.add", {}),
        (torch.add, "vn.add", {}),
        (lambda x, y: torch.add(x, y, alpha=3), "vn.add", {"alpha": 3}),
        (lambda x, y: torch.add(other=y, input=x, alpha=3), "vn.add", {"alpha": 3, "reversed": True}),
        (lambda x, y: x + 1, "vn.add", {"other": 1}),
        (lambda x, y: 1 + x, "vn.add", {"other": 1}),
        (lambda x, y: torch.add(x, 0.25, alpha=2), "vn.add", {"other": 0.25, "alpha": 2}),
        (lambda x, y: x.add_(3), "vn.add", {"other": 3}),
        (lambda x, y: x + np.float32(0.1), "vn.add", {"other": float(np.float32(0.1))}),
        (lambda x, y: x + np.int64(2), "vn.add", {"other": 2}),
        (lambda x, y: x + float("inf"), "vn.add", {"other": float("inf")}),
        (lambda x, y: x - y, "vn.sub", {}),
        (lambda x, y: x - 1, "vn.sub", {"other": 1}),
        (lambda x, y: 1 - x, "vn.sub", {"other": 1, "reversed": True}),
        (lambda x, y: x.sub(y, alpha=2), "vn.sub", {"alpha": 2}),
        (lambda x, y: x.sub_(y), "vn.sub", {}),
        (lambda x, y: x.subtract(y), "vn.sub", {}),
        (lambda x, y: x.subtract_(y), "vn.sub", {}),
        (lambda x, y: x.__rsub__(2.5), "vn.sub", {"other": 2.5, "reversed": True}),
        (operator.isub, "vn.sub", {}),
        (torch.sub, "vn.sub", {}),
        (lambda x, y: torch.sub(other=y, input=x), "vn.sub", {"reversed": True}),
        (lambda x, y: torch.sub(other=y, input=x, alpha=2), "vn.sub", {"reversed": True, "alpha": 2}),
        (lambda x, y: torch.subtract(x, y, alpha=2), "vn.sub", {"alpha": 2}),
        (torch.rsub, "vn.sub", {"reversed": True}),
        (lambda x, y: torch.rsub(x, 2, alpha=3), "vn.sub", {"other": 2, "reversed": True, "alpha": 3}),
        (lambda x, y: x * y, "vn.mul", {}),
        (lambda x, y: 2 * x, "vn.mul", {"other": 2}),
        (lambda x, y: x * -0.5, "vn.mul", {"other": -0.5}),
        (lambda x, y: x.mul(y), "vn.mul", {}),
        (lambda x, y: x.mul_(y), "vn.mul", {}),
        (lambda x, y: x.multiply(y), "vn.mul", {}),
        (lambda x, y: x.multiply_(y), "vn.mul", {}),
        (operator.imul, "vn.mul", {}),
        (lambda x, y: torch.mul(x, other=y), "vn.mul", {}),
        (torch.multiply, "vn.mul", {}),
        (lambda x, y: x / y, "vn.div", {}),
        (lambda x, y: x / 3, "vn.div", {"other": 3}),
        (lambda x, y: 3 / x, "vn.div", {"other": 3, "reversed": True}),
        (lambda x, y: x.div(y, rounding_mode="floor"), "vn.div", {"rounding_mode": "floor"}),
        (lambda x, y: x.div_(y), "vn.div", {}),
        (lambda x, y: x.divide(y), "vn.div", {}),
        (lambda x, y: x.divide_(y), "vn.div", {}),
        (lambda x, y: x.true_divide(y), "vn.div", {}),
        (operator.itruediv, "vn.div", {}),
        (lambda x, y: torch.div(x, y, rounding_mode="trunc"), "vn.div", {"rounding_mode": "trunc"}),
        (lambda x, y: torch.div(other=y, input=x), "vn.div", {"reversed": True}),
        (torch.divide, "vn.div", {}),
        (torch.true_divide, "vn.div", {}),
    ],
)
def test_spellings(function: Callable[[Tensor, Tensor], Tensor], op: str, params: dict[str, Any]) -> None:
    extra = {"vn.add": {"alpha": 1}, "vn.sub": {"alpha": 1}, "vn.mul": {}, "vn.div": {"rounding_mode": None}}[op]
    found = only(captured(function), op)
    assert found == {**PLAIN, **extra, **params}
    for name, value in params.items():
        assert type(found[name]) is type(value)


def test_an_operand_computed_at_run_time() -> None:
    network = captured(lambda x, y: x * x.shape[0] + (10 - x.size(0) * y))
    x = torch.rand(7, 4, 3, 5)
    assert torch.equal(network(x, x), x * 7 + (10 - 7 * x))


def test_broadcasting_and_constants() -> None:
    table = torch.arange(4.0).view(4, 1, 1)
    network = captured(lambda x, y: (x + table) * y[:, :1] / torch.tensor(4.0))
    x, y = example()
    assert torch.equal(network(x, y), (x + table) * y[:, :1] / 4.0)


def test_what_keeps_its_type_only_in_place_is_opaque() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        half = x.half()
        half += y
        return half

    network = capture(Net(function), *example())
    assert [node.op for node in network.graph.nodes].count("vn.add") == 0
    assert network(*example()).dtype == torch.float16


@pytest.mark.parametrize("kind", [ElemAdd, ElemSub, ElemMul, ElemDiv])
def test_the_modules_of_this_package_in_a_users_network(kind: type[nn.Module]) -> None:
    class User(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both, self.scalar, self.late = kind(), kind(other=3), kind()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.late(self.scalar(self.both(x, y)), x.shape[1])

    model = User()
    network = capture(model, *example(), strict=True)
    assert network.layer_names[:2] == ["both", "scalar"]
    assert_rebuilds(network, *example())
    assert network.layer("both") is not model.both


@pytest.mark.parametrize(
    ("op", "params", "expected"),
    [
        ("vn.add", {"other": 2, "alpha": 3}, lambda x: x + 6),
        ("vn.sub", {"other": 2, "reversed": True}, lambda x: 2 - x),
        ("vn.mul", {"other": 0.5}, lambda x: x * 0.5),
        ("vn.div", {"other": 2, "reversed": True}, lambda x: 2 / x),
    ],
)
def test_layers_made_by_op_id(op: str, params: dict[str, Any], expected: Callable[[Tensor], Tensor]) -> None:
    x = example()[0]
    assert torch.equal(make_layer(op, params, {})(x), expected(x))
