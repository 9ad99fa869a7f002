"""Instance, group, layer and root-mean-square norms: spellings, documents, and which channels can go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture, channel_map, handler_for, make_layer, profile
from amc_plugins.handlers import Kept
from amc_plugins.plugin import GraphError
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds

FIRST = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Between(nn.Module):
    """A norm of 12 channels between two convolutions; what it owns matters."""

    def __init__(self, norm: Any, rank: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = FIRST[rank](3, 12, 3, padding=1), norm, FIRST[rank](12, 2, 1)
        self.weight, self.bias = nn.Parameter(torch.rand(12) + 0.5), nn.Parameter(torch.rand(12), requires_grad=False)
        self.register_buffer("mean", torch.rand(12))
        self.register_buffer("var", torch.rand(12) + 0.5)
        if isinstance(norm, nn.Module):
            for name, tensor in norm.state_dict().items():
                if name != "num_batches_tracked":
                    tensor.copy_(torch.rand(tensor.shape) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        z: Tensor = self.last(self.norm(y) if isinstance(self.norm, nn.Module) else self.norm(y, self))
        return z


def image(rank: int = 2) -> Tensor:
    return torch.randn(2, 3, *((8, 6, 5)[:rank]), generator=torch.Generator().manual_seed(0))


def captured(norm: Any, rank: int = 2) -> ReconstructedNetwork:
    model = Between(norm, rank).eval()
    network = capture(model, image(rank), strict=True)
    again = assert_rebuilds(network, image(rank))
    assert torch.equal(again(image(rank)), model(image(rank)))
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(image(rank)), model(image(rank)))
    return network


def last(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """With the channels on the last axis."""
    return function(x.movedim(1, -1)).movedim(-1, 1)


# norm, rank of its input, op, how many free choices its channels leave, a part of the reason when there are none
CASES: list[tuple[Any, int, str, int, str]] = [
    (nn.BatchNorm3d(12), 3, "vn.batchnorm3d", 12, ""),
    (nn.InstanceNorm1d(12), 1, "vn.instance_norm", 12, ""),
    (nn.InstanceNorm2d(12, affine=True), 2, "vn.instance_norm", 12, ""),
    (nn.InstanceNorm2d(12, track_running_stats=True), 2, "vn.instance_norm", 12, ""),
    (nn.InstanceNorm3d(12, affine=True, track_running_stats=True, eps=1e-3), 3, "vn.instance_norm", 12, ""),
    (lambda x, m: F.instance_norm(x), 2, "vn.instance_norm", 12, ""),
    (lambda x, m: F.instance_norm(x, weight=m.weight, bias=m.bias, eps=1e-3), 1, "vn.instance_norm", 12, ""),
    (lambda x, m: F.instance_norm(x, m.mean, m.var, m.weight, None, False), 3, "vn.instance_norm", 12, ""),
    (nn.GroupNorm(12, 12), 2, "vn.group_norm", 12, ""),
    (nn.GroupNorm(4, 12), 2, "vn.group_norm", 4, ""),
    (nn.GroupNorm(6, 12, affine=False, eps=1e-3), 3, "vn.group_norm", 6, ""),
    (nn.GroupNorm(1, 12), 2, "vn.group_norm", 0, "normalises over all channels"),
    (lambda x, m: F.group_norm(x, 3, m.weight, m.bias), 1, "vn.group_norm", 3, ""),
    (lambda x, m: F.group_norm(x, num_groups=12, bias=m.bias), 2, "vn.group_norm", 12, ""),
    (nn.LayerNorm((8, 6)), 2, "vn.layer_norm", 12, ""),
    (nn.LayerNorm((6,), bias=False), 2, "vn.layer_norm", 12, ""),
    (nn.LayerNorm((12, 8, 6)), 2, "vn.layer_norm", 0, "normalises over channels"),
    (lambda x, m: last(x, lambda y: F.layer_norm(y, (12,), m.weight, m.bias, 1e-6)), 2, "vn.layer_norm", 0, "normalises over"),
    (lambda x, m: last(x, lambda y: F.layer_norm(y, y.shape[-1:], weight=m.weight)), 2, "vn.layer_norm", 0, "normalises over"),
    (lambda x, m: F.layer_norm(x, x.shape[2:]), 2, "vn.layer_norm", 12, ""),
    (lambda x, m: F.layer_norm(x, [x.size(-1)]), 2, "vn.layer_norm", 12, ""),
    (nn.RMSNorm((8, 6)), 2, "vn.rms_norm", 12, ""),
    (lambda x, m: last(x, lambda y: F.rms_norm(y, (12,), m.weight)), 2, "vn.rms_norm", 0, "normalises over channels"),
    (lambda x, m: F.rms_norm(x, x.shape[-2:], eps=1e-4), 2, "vn.rms_norm", 12, ""),
    (lambda x, m: F.normalize(x), 2, "vn.normalize", 12, ""),
    (lambda x, m: F.normalize(x, p=1, dim=-1), 2, "vn.normalize", 12, ""),
    (lambda x, m: F.normalize(x, dim=(2, 3), eps=1e-6), 2, "vn.normalize", 12, ""),
    (nn.LocalResponseNorm(3), 2, "vn.local_response_norm", 0, "by their neighbours"),
    (lambda x, m: F.local_response_norm(x, 5, alpha=1e-2, k=2.0), 2, "vn.local_response_norm", 0, "by their neighbours"),
]


@pytest.mark.parametrize(("norm", "rank", "op", "free", "why"), CASES)
def test_masked_equals_shrunk(norm: Any, rank: int, op: str, free: int, why: str) -> None:
    network = captured(norm, rank)
    (node,) = (node for node in network.graph.nodes if "norm" in node.op)
    assert node.op == op
    channels = channel_map(network)
    first = channels.group("first")
    assert (len(first) if not first.pinned else 0) == free
    assert (why in first.pinned[0]) if why else not first.pinned
    if why:
        assert " at test_op_norm_layers.py:" in first.pinned[0]
    for seed in range(2):
        smaller = assert_masked_equals_shrunk(network, image(rank), seed=seed)
        assert_rebuilds(smaller, image(rank).double())
        assert (smaller.layer("last").weight.shape[1] < 12) == (free > 0)
    assert next(row.macs for row in profile(network).rows if row.op == op) == 0


def test_what_a_call_left_out_is_not_trained() -> None:
    network = captured(lambda x, m: F.group_norm(x, 3, m.weight))
    (node,) = (node for node in network.graph.nodes if node.op == "vn.group_norm")
    module = network.layer(node.layer)
    assert module.get_parameter("weight").requires_grad
    assert not module.get_parameter("bias").requires_grad and not module.get_parameter("bias").any()


def test_sizes_of_a_norm_over_an_image_stay_computed() -> None:
    model = Between(lambda x, m: F.layer_norm(x, x.shape[2:])).eval()
    network = assert_rebuilds(capture(model, image(), strict=True), image())
    wide = torch.rand(1, 3, 5, 11)
    assert torch.equal(network(wide), model(wide))


def test_a_norm_in_training_mode_is_followed() -> None:
    model = Between(nn.InstanceNorm2d(12, affine=True, track_running_stats=True))
    network = capture(model, image(), strict=True).train()
    model.train()
    assert torch.equal(network(image()), model(image()))
    assert torch.equal(network.layer("norm").get_buffer("running_mean"), model.norm.running_mean)


def test_half_of_a_group_cannot_go() -> None:
    handler = handler_for("vn.group_norm")
    kept = Kept((2, 12, 4, 4), {1: torch.tensor([0, 1, 2, 5])})
    with pytest.raises(GraphError, match="4 channels would stay of 4 groups of 3, expected were whole groups"):
        handler.keep(nn.GroupNorm(4, 12), [kept], [kept])


def test_the_layer_norm_of_vision_transformers() -> None:
    """Its hidden features can go although the stream that it normalises is pinned."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.norm = nn.Linear(4, 8), nn.LayerNorm(8)
            self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x)
            y: Tensor = self.head((x + self.down(F.gelu(self.up(self.norm(x))))).mean(1))
            return y

    x = torch.rand(2, 5, 4)
    network = capture(Block(), x, strict=True)
    channels = channel_map(network)
    assert channels.group("embed").pinned and not channels.group("up").pinned
    assert assert_masked_equals_shrunk(network, x).layer("up").weight.shape == (8, 8)


def test_layers_made_by_op_id() -> None:
    x = torch.rand(2, 6, 4)
    assert torch.equal(make_layer("vn.normalize", {"dim": [1, 2]}, {})(x), F.normalize(x, dim=(1, 2)))
    made = make_layer("vn.layer_norm", {"normalized_shape": [4], "bias": False}, {"weight": torch.full((4,), 2.0)})
    assert torch.equal(made(x), F.layer_norm(x, (4,), torch.full((4,), 2.0)))


@pytest.mark.parametrize(
    "norm",
    [lambda x, m: F.instance_norm(x, m.mean.clone(), m.var.clone()), lambda x, m: F.group_norm(x, 3, m.weight * x.mean())],
)
def test_variants_that_are_declined_still_run(norm: Any) -> None:
    model = Between(norm).eval()
    network = capture(model, image())
    assert "opaque" in [node.op for node in network.graph.nodes]
