"""Scaled dot-product attention and nn.MultiheadAttention: spellings, MACs, and what is left when channels go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, profile
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Block(nn.Module):
    """Queries, keys and values of `size` features in `heads` heads over 5 tokens."""

    def __init__(self, attend: Callable[..., Tensor], size: int = 12, heads: int = 2, mask: tuple[int, ...] = (5, 5)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (nn.Linear(6, size) for _ in range(3))
        self.attend, self.heads, self.last = attend, heads, nn.Linear(size, 2)
        self.mask = nn.Parameter(torch.randn(mask))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.last(self.attend(q, k, v, self.mask).transpose(1, 2).flatten(2))


def tokens() -> Tensor:
    return torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1))


def free(network: ReconstructedNetwork) -> dict[str, int]:
    groups = [group for group in channel_map(network).groups if not group.pinned and len(group) > 1]
    return {" ".join(group.producers): len(group) for group in groups}


INSIDE, WHOLE = {"q k": 6, "v": 6}, {"q k v": 6}
CASES: list[tuple[Callable[..., Tensor], int, tuple[int, ...], dict[str, int], dict[str, Any]]] = [
    (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v), 2, (1,), INSIDE, {"scale": None}),
    (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, is_causal=True), 2, (1,), INSIDE, {"is_causal": True}),
    (lambda q, k, v, m: F.scaled_dot_product_attention(value=v, query=q, key=k, scale=0.7), 2, (1,), INSIDE, {"scale": 0.7}),
    (F.scaled_dot_product_attention, 2, (5, 5), INSIDE, {"dropout_p": 0.0}),
    (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), 2, (2, 5, 5), INSIDE, {}),
    (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v), 6, (1,), WHOLE, {}),
    (F.scaled_dot_product_attention, 6, (5, 5), WHOLE, {}),
    (F.scaled_dot_product_attention, 6, (1, 6, 5, 5), WHOLE, {}),
    (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m > 0), 2, (5, 5), INSIDE, {}),
    (lambda q, k, v, m: F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True), 2, (1,), INSIDE, {}),
]


@pytest.mark.parametrize(("attend", "heads", "mask", "expected", "params"), CASES)
def test_masked_equals_shrunk(
    attend: Callable[..., Tensor], heads: int, mask: tuple[int, ...], expected: dict[str, int], params: dict[str, Any]
) -> None:
    network = capture(Block(attend, heads=heads, mask=mask), tokens(), strict=True)
    assert_rebuilds(network, tokens())
    assert torch.equal(torch.fx.symbolic_trace(network)(tokens()), network(tokens()))
    (node,) = (node for node in network.graph.nodes if node.op == "vn.attention")
    assert params.items() <= node.params.items()
    assert free(network) == expected
    for seed in range(3):
        smaller = assert_masked_equals_shrunk(network, tokens(), seed=seed)
        assert_rebuilds(smaller, tokens().double())
    row = next(row for row in profile(network).rows if row.op == "vn.attention")
    assert row.macs == 5 * 5 * 12 * 2
    assert next(one for one in profile(smaller).rows if one.op == "vn.attention").macs == 5 * 5 * 6 * 2


def test_the_scale_stays_what_it_was() -> None:
    network = capture(Block(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v)), tokens(), strict=True)
    channels = channel_map(network)
    smaller = channels.shrink(channels.group("q").ids[:2])
    (node,) = (node for node in smaller.graph.nodes if node.op == "vn.attention")
    assert node.params["scale"] == pytest.approx(6**-0.5)
    whole = channels.shrink(channels.group("v").ids[:2])
    assert next(node.params["scale"] for node in whole.graph.nodes if node.op == "vn.attention") is None


def test_macs_of_attention_are_half_of_torchs_flops() -> None:
    """With values of another width torch computes attention by the products that its counter sees."""

    class Wide(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v)

    x = torch.rand(2, 3, 4, 8), torch.rand(2, 3, 6, 8), torch.rand(2, 3, 6, 10)
    with FlopCounterMode(display=False) as counter:
        Wide()(*x)
    assert 2 * profile(capture(Wide(), *x, strict=True), *x).total_macs == counter.get_total_flops() > 0


class SelfAttention(nn.Module):
    def __init__(self, batch_first: bool, call: Callable[..., Any], **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.side = nn.Linear(6, 8), nn.Linear(6, settings.get("kdim", 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first, **settings)
        for parameter in self.attention.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
        self.last = nn.Linear(8, 3)
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self, self.embed(x), self.side(x) if self.call in (cross, distinct) else x)


def output(n: Any, y: Tensor, z: Tensor) -> Tensor:
    return n.last(n.attention(y, y, y, need_weights=False)[0])


def cross(n: Any, y: Tensor, z: Tensor) -> Tensor:
    return n.last(n.attention(y, z, z)[0])


def distinct(n: Any, y: Tensor, z: Tensor) -> Tensor:
    return n.last(n.attention(y, z, y, need_weights=False)[0])


def weights(n: Any, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    out, found = n.attention(y, y, y, average_attn_weights=False)
    return n.last(out), found


def masked(n: Any, y: Tensor, z: Tensor) -> Tensor:
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    return n.last(n.attention(y, y, y, attn_mask=mask, need_weights=False, is_causal=True)[0])


def padded(n: Any, y: Tensor, z: Tensor) -> Tensor:
    padding = y.new_zeros(5).expand(y.shape[0], 5) if n.attention.batch_first else torch.zeros(y.shape[1], 5)
    return n.last(n.attention(y, y, y, key_padding_mask=padding)[0])


SEPARATE = "attention.linear_0 attention.linear_1 attention.linear_2"
MODULES: list[tuple[bool, Callable[..., Any], dict[str, Any], dict[str, int]]] = [
    (True, output, {}, {"embed": 8, "attention.linear_0": 2, "attention.linear_1": 8}),
    (True, output, {"bias": False}, {"embed": 8, "attention.linear_0": 2, "attention.linear_1": 8}),
    (True, weights, {}, {"embed": 8, "attention.linear_1": 8}),
    (True, cross, {}, {"embed": 8, "side": 8, "attention.linear_0 attention.linear_1": 2, "attention.linear_2": 8}),
    (True, distinct, {}, {"embed": 8, "side": 8, SEPARATE: 2, "attention.linear_3": 8}),
    (True, cross, {"kdim": 4, "vdim": 4}, {"embed": 8, "side": 4, SEPARATE: 2, "attention.linear_3": 8}),
    (True, masked, {}, {"embed": 8, "attention.linear_0": 2, "attention.linear_1": 8}),
    (True, output, {"add_bias_kv": True}, {"embed": 8, "attention.linear_0": 2, "attention.linear_1": 8}),
    (True, output, {"add_zero_attn": True}, {"embed": 8, "attention.linear_1": 8}),
]


@pytest.mark.parametrize(("batch_first", "call", "settings", "expected"), MODULES)
def test_multihead_attention(batch_first: bool, call: Any, settings: dict[str, Any], expected: dict[str, int]) -> None:
    model = SelfAttention(batch_first, call, **settings).eval()
    network = capture(model, tokens(), strict=True)
    assert_rebuilds(network, tokens())
    assert torch.equal(_joined(network(tokens())), _joined(model(tokens())))  # with gradients torch takes no fused path
    assert free(network) == expected
    for seed in range(3):
        smaller = assert_masked_equals_shrunk(network, tokens(), seed=seed)
        assert_rebuilds(smaller, tokens().double())
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(tokens())
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    found = profile(network, tokens()).total_macs
    sources = 5 + sum(bool(settings.get(name)) for name in ("add_bias_kv", "add_zero_attn"))
    hidden = 0 if call in (weights, cross) else 2 * 2 * 5 * sources * 8  # fused attention, which the counter leaves out
    assert 2 * (found - hidden) == counter.get_total_flops()


def _flat(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _joined(outputs: Any) -> Tensor:
    return torch.cat([one.flatten() for one in _flat(outputs)])


def test_sequences_first() -> None:
    """(L, N, E): the batch is the second axis, so it stays as it is in the example."""

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner = SelfAttention(False, output)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x.transpose(0, 1)).transpose(0, 1)
            return y

    network = capture(First().eval(), tokens(), strict=True)
    assert free(network) == {"inner.embed": 8, "inner.attention.linear_0": 2, "inner.attention.linear_1": 8}
    smaller = assert_masked_equals_shrunk(network, tokens())
    shapes = [tuple(smaller.layer(f"inner.attention.linear_{place}").get_parameter("weight").shape) for place in (0, 1)]
    assert shapes == [(3 * 4, 4), (4, 4)], "one head of two, and half of the stream on both sides"


def test_dropout_wakes_up_in_training() -> None:
    model = SelfAttention(True, output, dropout=0.5).eval()
    network = capture(model, tokens(), strict=True)
    (node,) = (node for node in network.graph.nodes if node.op == "vn.attention")
    assert node.params["dropout_p"] == 0.5
    assert torch.equal(network(tokens()), network(tokens()))
    network.train()
    assert not torch.equal(network(tokens()), network(tokens()))
    averaged = capture(SelfAttention(True, weights, dropout=0.5).eval(), tokens(), strict=True)
    assert "vn.dropout" in {node.op for node in averaged.graph.nodes}


def test_an_encoder_layer_of_torch() -> None:
    """Its norms pin the stream; the hidden features of its feed-forward part can go. torch's fused layer is not recorded."""
    pytest.importorskip("amc_op_norm")
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 16, batch_first=True).eval()
    network = capture(layer, tokens(), strict=True)
    assert torch.backends.mha.get_fastpath_enabled()
    assert [node.op for node in network.graph.nodes if "attention" in node.op] == ["vn.attention"]
    with torch.no_grad():
        assert (network(tokens()) - layer(tokens())).abs().max() < 1e-5
    assert free(network) == {"self_attn.linear_0": 2, "linear1": 16}
    assert_masked_equals_shrunk(network, tokens())


def test_the_smaller_module_equals_torchs_when_nothing_goes() -> None:
    from amc_op_attention._multihead import ProjectedAttention

    torch.manual_seed(0)
    for packed, batch_first, dims in ((True, True, 8), (False, False, 4)):
        theirs = nn.MultiheadAttention(8, 2, kdim=dims, vdim=dims, batch_first=batch_first).double().eval()
        mine = ProjectedAttention(8, 2, 8, dims, dims, 8, packed=packed, batch_first=batch_first).double().eval()
        mine.load_state_dict(theirs.state_dict())
        query, key = torch.rand(3, 3, 8).double(), torch.rand(3, 3, dims).double()
        mask, padding = torch.zeros(6, 3, 3).double().normal_(), torch.tensor([[False, False, True]] * 3)
        padding = torch.zeros(3, 3).double().masked_fill(padding, float("-inf"))
        for more in (
            {},
            {"attn_mask": mask},
            {"key_padding_mask": padding, "attn_mask": mask[0]},
            {"average_attn_weights": False},
        ):
            for one, other in zip(mine(query, key, key, **more), theirs(query, key, key, **more), strict=True):
                assert (one - other).abs().max() < 1e-12
        alone = mine(query[0], key[0], key[0])
        expected = theirs(query[0], key[0], key[0])
        assert (alone[0] - expected[0]).abs().max() < 1e-12 and (alone[1] - expected[1]).abs().max() < 1e-12
