"""Products of matrices and einsum: spellings, MACs, and the channels that they tie, keep or pin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Net(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.rand(5, 3)), nn.Parameter(torch.rand(3), requires_grad=False)
        self.function = function

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.function(x, y, self)


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 4, 5, generator=generator), torch.rand(2, 4, 5, generator=generator)


SPELLINGS: list[tuple[Callable[..., Tensor], str, int]] = [  # MACs of one sample
    (lambda x, y, n: x @ y.mT, "vn.matmul", 4 * 4 * 5),
    (lambda x, y, n: torch.matmul(x, other=y.transpose(1, 2)), "vn.matmul", 4 * 4 * 5),
    (lambda x, y, n: torch.matmul(other=y.mT, input=x), "vn.matmul", 4 * 4 * 5),
    (lambda x, y, n: torch.bmm(x, y.mT), "vn.matmul", 4 * 4 * 5),
    (lambda x, y, n: x.bmm(mat2=y.mT), "vn.matmul", 4 * 4 * 5),
    (lambda x, y, n: x.__rmatmul__(y.mT), "vn.matmul", 4 * 5 * 5),
    (lambda x, y, n: torch.mm(x.flatten(0, 1), y[0].mT), "vn.matmul", 4 * 4 * 5),
    (lambda x, y, n: x @ n.weight, "vn.matmul", 4 * 3 * 5),
    (lambda x, y, n: torch.matmul(x, n.weight), "vn.matmul", 4 * 3 * 5),
    (lambda x, y, n: n.weight.T @ x.mT, "vn.matmul", 4 * 3 * 5),
    (lambda x, y, n: torch.baddbmm(x, x @ y.mT, y), "vn.addmm", 2 * 4 * 4 * 5),
    (lambda x, y, n: torch.baddbmm(n.bias[:1], x, y.mT, beta=0.5, alpha=2), "vn.addmm", 4 * 4 * 5),
    (lambda x, y, n: torch.addmm(n.bias, x.flatten(0, 1), n.weight), "vn.addmm", 4 * 3 * 5),
    (lambda x, y, n: torch.einsum("bij,bkj->bik", x, y), "vn.einsum", 4 * 4 * 5),
    (lambda x, y, n: torch.einsum("...ij,...kj->...ik", [x, y]), "vn.einsum", 4 * 4 * 5),
    (lambda x, y, n: torch.einsum("bij,jk", x, n.weight), "vn.einsum", 4 * 3 * 5),
    (lambda x, y, n: torch.einsum("bij, bkj, jl -> bikl", x, y, n.weight), "vn.einsum", 4 * 4 * 5 * 3),
    (lambda x, y, n: torch.einsum("bij,bij->bij", x, y), "vn.einsum", 0),
    (lambda x, y, n: torch.einsum("bij,bij->bi", x, y), "vn.einsum", 4 * 5),
    (lambda x, y, n: torch.einsum("bij->bj", x), "vn.einsum", 0),
    (lambda x, y, n: torch.einsum("bij,bkl->bil", x, y), "vn.einsum", 0),
]


@pytest.mark.parametrize(("function", "op", "macs"), SPELLINGS)
def test_functions(function: Callable[..., Tensor], op: str, macs: int) -> None:
    model = Net(function)
    network = capture(model, *example(), strict=True)
    assert_rebuilds(network, *example())
    assert torch.equal(torch.fx.symbolic_trace(network)(*example()), network(*example()))
    assert op in [node.op for node in network.graph.nodes]
    found = profile(network, *example())
    assert found.total_macs == 2 * macs and not found.unknown
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*example())
    assert counter.get_total_flops() == 2 * found.total_macs


def test_a_product_with_a_vector_counts() -> None:
    network = capture(Net(lambda x, y, n: x @ y[0, 0]), *example(), strict=True)
    assert profile(network).total_macs == 4 * 5


def test_a_constant_matrix_is_owned() -> None:
    model = Net(lambda x, y, n: x @ n.weight)
    network = capture(model, *example(), strict=True)
    (node,) = network.graph.nodes
    weight = network.layer(node.layer).get_parameter("weight")
    assert torch.equal(weight, model.weight) and weight.data_ptr() != model.weight.data_ptr() and weight.requires_grad
    assert node.params["weight"] == [5, 3]


class Tokens(nn.Module):
    """Linear layers of `size` features each over 5 tokens, `middle` of their results, and a last linear layer."""

    def __init__(self, middle: Callable[..., Tensor], size: int, last: int, constant: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Linear(6, size) for _ in range(3))
        self.middle, self.last = middle, nn.Linear(last, 2)
        self.constant = nn.Parameter(torch.rand(constant))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.a(x), self.b(x), self.c(x), self.constant))


def tokens() -> Tensor:
    return torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1))


def heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, count: int) -> Tensor:
    q, k, v = (heads(one, count) for one in (q, k, v))
    return ((q @ k.mT) * 0.5).softmax(-1).matmul(v).transpose(1, 2).flatten(2)


# middle, size of a, b and c, size of the result, the constant's shape, free groups (producers -> number of choices)
CHANNELS: list[tuple[Callable[..., Tensor], int, int, tuple[int, ...], dict[str, int]]] = [
    (lambda a, b, c, w: (a @ b.mT).softmax(-1) @ c, 8, 8, (1,), {"a b": 8, "c": 8}),
    (lambda a, b, c, w: torch.bmm(torch.bmm(a, b.mT), c), 8, 8, (1,), {"a b": 8, "c": 8}),
    (lambda a, b, c, w: attend(a, b, c, 2), 12, 12, (1,), {"a b": 6, "c": 6}),
    (lambda a, b, c, w: attend(a, b, c, 6), 12, 12, (1,), {"a b c": 6}),
    (lambda a, b, c, w: torch.einsum("bqd,bkd,bkv->bqv", a, b, c), 8, 8, (1,), {"a b": 8, "c": 8}),
    (lambda a, b, c, w: torch.baddbmm(c, a @ b.mT, c), 8, 8, (1,), {"a b": 8, "c": 8}),
    (lambda a, b, c, w: a @ w, 8, 4, (8, 4), {"a": 8, "matmul_0": 4}),
    (lambda a, b, c, w: torch.einsum("btc,cd->btd", a, w) + 1, 8, 4, (8, 4), {"a": 8}),
    (lambda a, b, c, w: torch.addmm(b[0, 0, :4], a.flatten(0, 1), w).unflatten(0, (-1, 5)), 8, 4, (8, 4), {"a": 8, "b": 4}),
    (lambda a, b, c, w: (heads(a, 2) @ w).transpose(1, 2).flatten(2), 8, 6, (2, 4, 3), {"a": 4}),
    (lambda a, b, c, w: (a.mT @ b).softmax(-1) @ c.mT, 8, 5, (1,), {}),
    (lambda a, b, c, w: torch.einsum("btc,btc->bt", a, b).unsqueeze(-1) * c, 8, 8, (1,), {"a b": 8, "c": 8}),
    (lambda a, b, c, w: torch.einsum("btc->bt", a).unsqueeze(-1) * c, 8, 8, (1,), {"c": 8}),
    (lambda a, b, c, w: torch.einsum("btc,c->btc", a, w), 8, 8, (8,), {"a": 8}),
    (lambda a, b, c, w: torch.einsum("btc,bsc->btsc", a, b).mean(2), 8, 8, (1,), {"a b": 8}),
    (lambda a, b, c, w: torch.einsum("btc,btd->bcd", a, b).mean(1, keepdim=True), 8, 8, (1,), {}),
    (lambda a, b, c, w: a @ a.mT @ b, 8, 8, (1,), {"a": 8, "b": 8}),
    (
        lambda a, b, c, w: torch.einsum("bctd,bcsd->bcts", heads(a, 2), heads(b, 2)).sum(1) @ c,
        12,
        12,
        (1,),
        {"a b": 6, "c": 12},
    ),
]


def free(network: ReconstructedNetwork) -> dict[str, int]:
    found: dict[str, int] = {}
    for group in channel_map(network).groups:
        if not group.pinned and len(group) > 1:
            name = " ".join(group.producers)
            found[name] = found.get(name, 0) + len(group)
    return found


@pytest.mark.parametrize(("middle", "size", "last", "constant", "expected"), CHANNELS)
def test_masked_equals_shrunk(
    middle: Callable[..., Tensor], size: int, last: int, constant: tuple[int, ...], expected: dict[str, int]
) -> None:
    network = capture(Tokens(middle, size, last, constant), tokens(), strict=True)
    assert free(network) == expected
    for seed in range(3):
        smaller = assert_masked_equals_shrunk(network, tokens(), seed=seed)
        assert_rebuilds(smaller, tokens().double())
        assert (profile(smaller).total_macs < profile(network).total_macs) is bool(expected)
        again = channel_map(smaller)
        assert all(len(group) for group in again.groups)


def test_reasons_name_the_product_and_the_line() -> None:
    def middle(a: Tensor, b: Tensor, c: Tensor, w: Tensor) -> Tensor:
        return (a.mT @ b).softmax(-1) @ c.mT

    channels = channel_map(capture(Tokens(middle, 8, 5), tokens(), strict=True))
    reasons = " ".join(channels.group("b").pinned)
    assert "vn.matmul makes entries that belong to two channels each at test_op_attention_products.py:" in reasons
    other = " ".join(channels.group("c").pinned)
    assert "vn.matmul multiplies them by what has no channels there at test_op_attention_products.py:" in other


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y, n: torch.einsum("bii->bi", x[:, :, :4]),
        lambda x, y, n: torch.tensordot(x, y, dims=([2], [2])).sum(2),
    ],
)
def test_variants_that_are_declined_still_run(function: Callable[..., Any]) -> None:
    network = capture(Net(function), *example())
    assert "opaque" in [node.op for node in network.graph.nodes]
    assert torch.equal(network(*example()), Net(function)(*example()))
