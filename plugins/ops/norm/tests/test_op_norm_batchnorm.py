"""Batch normalisation: spellings, document, and what is left when channels go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.graph import capture, channel_map, describe, handler_for, rebuild, tensors_of
from amc_plugins.handlers import Kept


def filled(module: nn.Module) -> nn.Module:
    """With statistics and weights that matter."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in module.state_dict().items():
        if name != "num_batches_tracked":
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


NORMS: dict[str, Callable[[], nn.Module]] = {
    "2d": lambda: nn.BatchNorm2d(6),
    "2d-settings": lambda: nn.BatchNorm2d(6, eps=1e-3, momentum=None),
    "2d-plain": lambda: nn.BatchNorm2d(6, affine=False),
    "2d-batch": lambda: nn.BatchNorm2d(6, track_running_stats=False),
    "1d": lambda: nn.BatchNorm1d(6),
    "1d-bare": lambda: nn.BatchNorm1d(6, affine=False, track_running_stats=False),
}
each_norm = pytest.mark.parametrize(("name", "make"), NORMS.items(), ids=NORMS.keys())


def data(name: str) -> Tensor:
    shape = (5, 6, 4, 4) if name.startswith("2d") else (5, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@each_norm
def test_documents_give_the_layer_back(name: str, make: Callable[[], nn.Module]) -> None:
    model, x = nn.Sequential(filled(make())).double().eval(), data(name)
    if not model[0].track_running_stats:
        x = torch.cat([x, x.flip(-1)])  # such a network depends on its batch
    network = capture(model, x)
    document = describe(network)
    assert [node.op for node in document.nodes] == [f"vn.batchnorm{name[:2]}"]
    again = rebuild(document, tensors_of(network))
    assert describe(again).to_json() == document.to_json()
    assert repr(again.layer("0")) == repr(model[0])
    assert torch.equal(again(x), model(x))
    assert again.layer("0").state_dict().keys() == model[0].state_dict().keys()
    trained, expected = again.train()(x), model.train()(x)
    assert torch.equal(trained, expected)
    for key, tensor in model[0].state_dict().items():
        assert torch.equal(again.layer("0").state_dict()[key], tensor), "training goes on alike"


@each_norm
def test_keep_equals_the_masked_layer(name: str, make: Callable[[], nn.Module]) -> None:
    module, x = filled(make()).double().eval(), data(name)
    left = torch.tensor([0, 2, 5])
    kept = Kept(tuple(x.shape), {1: left})
    small: Any = handler_for(f"vn.batchnorm{name[:2]}").keep(module, [kept], [kept]).eval()
    assert small.num_features == 3
    assert (small.eps, small.momentum) == (module.eps, module.momentum)
    assert (small(x[:, left]) - module(x)[:, left]).abs().max() < 1e-12
    assert set(small.state_dict()) == set(module.state_dict())


def test_counts_no_macs_and_keeps_shapes() -> None:
    handler = handler_for("vn.batchnorm2d")
    params = handler.params(nn.BatchNorm2d(6))
    assert handler.macs(params, [(2, 6, 3, 3)], [(2, 6, 3, 3)]) == 0
    assert handler.shapes(params, [(2, 6, 3, 3)]) == [(2, 6, 3, 3)]


class Called(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.norm = filled(nn.BatchNorm2d(6, eps=1e-3))
        self.norm.weight.requires_grad_(False)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.norm, self.training)
        return y


def _torch_spelling(x: Tensor, n: Any, training: bool) -> Tensor:
    return torch.batch_norm(x, n.weight, n.bias, n.running_mean, n.running_var, training, 0.1, n.eps, False)


@pytest.mark.parametrize(
    ("params", "slots", "function"),
    [
        (
            {"affine": True, "track_running_stats": True, "eps": 1e-3, "momentum": 0.1},
            5,
            lambda x, n, t: F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, t, 0.1, n.eps),
        ),
        (
            {"affine": False, "track_running_stats": True, "eps": 1e-5},
            3,
            lambda x, n, t: F.batch_norm(x, n.running_mean, n.running_var),
        ),
        (
            {"affine": True, "momentum": 0.2},
            5,
            lambda x, n, t: F.batch_norm(
                input=x, running_var=n.running_var, running_mean=n.running_mean, bias=n.bias, momentum=0.2, training=t
            ),
        ),
        (
            {"affine": True, "eps": 1e-5},
            5,
            lambda x, n, t: F.batch_norm(x, n.running_mean, n.running_var, weight=n.weight),
        ),
        (
            {"affine": True, "track_running_stats": False},
            2,
            lambda x, n, t: F.batch_norm(x, None, None, n.weight, n.bias, True),
        ),
        ({"affine": True, "track_running_stats": True, "eps": 1e-3}, 5, _torch_spelling),
    ],
)
def test_functional_calls_own_their_tensors(params: dict[str, Any], slots: int, function: Any) -> None:
    model, x = Called(function).eval(), data("2d").float()
    network = capture(model, x)
    (node,) = network.graph.nodes
    assert node.op == "vn.batchnorm2d"
    assert params.items() <= node.params.items()
    module = network.layer(node.layer)
    assert len(module.state_dict()) == slots
    if params["affine"]:
        assert not module.weight.requires_grad
    for own in module.state_dict().values():
        assert all(own.data_ptr() != theirs.data_ptr() for theirs in model.state_dict().values())
    assert torch.equal(network(x), model(x))
    assert torch.equal(rebuild(describe(network), tensors_of(network))(x), model(x))


def test_a_functional_batch_norm_of_another_rank_stays_opaque() -> None:
    model = Called(lambda x, n, t: F.batch_norm(x.mean((2, 3)), n.running_mean, n.running_var)).eval()
    network = capture(model, data("2d").float())
    assert any("of a tensor of shape (5, 6)" in reason for reason in network.graph.metadata.values())


def test_frozen_parameters_stay_frozen() -> None:
    norm = nn.BatchNorm2d(6)
    norm.bias.requires_grad_(False)
    network = capture(nn.Sequential(norm).eval(), data("2d").float())
    assert network.layer("0").weight.requires_grad
    assert not network.layer("0").bias.requires_grad


def test_channels_of_a_normalised_convolution() -> None:
    pytest.importorskip("amc_op_conv")
    torch.manual_seed(0)
    first, norm, last = nn.Conv2d(3, 6, 3), filled(nn.BatchNorm2d(6)), nn.Conv2d(6, 2, 1)
    model = nn.Sequential(first, norm, last).double().eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    channels = channel_map(capture(model, x))
    group = channels.group("0")
    assert (group.consumers, group.followers, group.pinned) == (("2",), ("1",), ())
    small = channels.shrink(group.ids[[1, 3]])
    with torch.no_grad():
        last.weight[:, [1, 3]] = 0
    assert (small(x) - model(x)).abs().max() < 1e-10
    assert torch.equal(small.layer("1").running_var, norm.running_var[[0, 2, 4, 5]])


def test_batch_norm_1d_follows_linear_features() -> None:
    pytest.importorskip("amc_op_linear")
    torch.manual_seed(0)
    first, norm, last = nn.Linear(8, 6), filled(nn.BatchNorm1d(6)), nn.Linear(6, 2)
    model = nn.Sequential(first, norm, last).double().eval()
    x = torch.randn(7, 8, dtype=torch.float64)
    channels = channel_map(capture(model, x))
    group = channels.group("0")
    small = channels.shrink(group.ids[[0, 5]])
    with torch.no_grad():
        last.weight[:, [0, 5]] = 0
    assert (small(x) - model(x)).abs().max() < 1e-10
