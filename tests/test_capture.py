"""Capture: what is recorded, what is refused, and what is left behind (nothing)."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks

import amc_plugins as amc
from amc_plugins.core.errors import CaptureError, UnsupportedOpError
from amc_plugins.graph import capture, describe
from tests.networks import Gated, ShuffleUnit, SkipNet, SmallResNet, TwoInputs, randomized


def ops(network: Any) -> list[str]:
    return [node.op for node in network.graph.nodes]


@pytest.mark.parametrize(
    ("model", "shape"),
    [(SmallResNet(), (2, 3, 16, 16)), (ShuffleUnit(), (2, 3, 6, 6)), (Gated(), (2, 3, 8, 8)), (SkipNet(), (1, 3, 20, 16))],
    ids=lambda value: type(value).__name__,
)
def test_records_are_bitwise_equal_and_hold_no_opaque_node(model: nn.Module, shape: tuple[int, ...]) -> None:
    randomized(model)
    network = capture(model, torch.rand(shape))
    assert "opaque" not in ops(network)
    x = torch.rand(5, *shape[1:])
    assert torch.equal(network(x), model(x))


def test_sizes_stay_symbolic() -> None:
    model = randomized(SkipNet())
    network = capture(model, torch.rand(1, 3, 20, 16))
    x = torch.rand(2, 3, 28, 36)
    assert torch.equal(network(x), model(x))


def test_several_inputs_and_nested_outputs_keep_their_structure() -> None:
    model = TwoInputs().eval()
    network = capture(model, torch.rand(2, 3, 4, 4), torch.rand(2, 2, 4, 4))
    assert [spec.name for spec in network.graph.inputs] == ["a", "b"]
    a, b = torch.rand(3, 3, 4, 4), torch.rand(3, 2, 4, 4)
    given, expected = network(a, b), model(a, b)
    assert given["version"] == 3 and given["more"][1][1] is None
    assert torch.equal(given["sum"], expected["sum"]) and torch.equal(given["more"][0], expected["more"][0])
    assert isinstance(given["more"][1], tuple) and torch.equal(given["more"][1][0], expected["more"][1][0])


def test_layer_names_are_paths_and_functions_are_named_after_their_caller() -> None:
    network = capture(SmallResNet().eval(), torch.rand(1, 3, 8, 8))
    assert {"stem", "relu_0", "layer1.0.conv1", "layer1.0.add_0", "layer2.0.shortcut.0", "fc"} <= set(network.layer_names)
    assert network.node("layer1.0.relu@1").layer == "layer1.0.relu"
    assert network.node("layer1.0.add_0").source is not None
    assert network.node("layer1.0.add_0").source.startswith("networks.py:")


def test_the_users_model_is_neither_changed_nor_aliased() -> None:
    model = SmallResNet()
    model.layer1.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    network = capture(model, torch.rand(2, 3, 8, 8))
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not any(tensor.data_ptr() in own for tensor in network.state_dict().values() if tensor.numel())


class Raises(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x)
        raise ZeroDivisionError("the user's own")


def test_nothing_is_left_behind_when_the_model_raises() -> None:
    model = Raises()
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        capture(model, torch.rand(1, 3, 2, 2))
    assert model.training and not model.conv._forward_hooks
    assert not module_hooks._has_any_global_hook()
    assert torch.is_grad_enabled()
    assert type(torch.rand(2).shape) is torch.Size  # no mode is active


class ViewWrite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = x + 1
        x.as_strided((2, 2), (4, 1)).mul_(2)
        return x + 1


class Invisible(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(x.numpy() * 2)


class HiddenSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * int(x.shape[0])


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ViewWrite(), r"changed in place through a view"),
        (Invisible(), r"`constant_0` at test_capture.py:\d+ is the first node"),
        (HiddenSize(), r"another batch size: .* `x.size0` == 2 at test_capture.py:\d+"),
        (Random(), r"different outputs .* each time"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_recorded_is_refused_with_its_line(model: nn.Module, message: str) -> None:
    with pytest.raises(CaptureError, match=message) as caught:
        capture(model, torch.rand(2, 4))
    assert caught.value.hint


class Awkward(nn.Module):
    """In-place writes, tensors made inside, an op without a handler, data-dependent control flow."""

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.0
        x[:, 0] = 3.0
        if x.sum() > -1e9:
            x = torch.logcumsumexp(x, 1)
        return x + torch.zeros(x.shape[0], 4) + x.new_ones(4)


def test_ops_without_a_handler_run_as_opaque_nodes(caplog: pytest.LogCaptureFixture) -> None:
    model = Awkward()
    with caplog.at_level("WARNING", logger="amc_plugins.capture"):
        network = capture(model, torch.rand(2, 4))
    x = torch.rand(3, 4)
    kept = x.clone()
    assert torch.equal(network(x), model(x.clone()))
    assert torch.equal(x, kept)
    assert "torch.logcumsumexp" in caplog.text and "test_capture.py" in caplog.text
    assert torch.equal(pickle.loads(pickle.dumps(network))(x), model(x.clone()))


def test_strict_refuses_them_and_shows_a_handler() -> None:
    with pytest.raises(UnsupportedOpError, match=r"torch\.logcumsumexp.*test_capture.py:\d+") as caught:
        capture(Awkward(), torch.rand(2, 4), strict=True)
    assert caught.value.hint is not None and "LayerHandler" in caught.value.hint


def test_a_scripted_module_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        scripted = torch.jit.trace(nn.Conv2d(3, 4, 1), torch.rand(1, 3, 2, 2))
    with pytest.raises(CaptureError, match="TorchScript"):
        capture(scripted, torch.rand(1, 3, 2, 2))


def test_wrappers_are_taken_off() -> None:
    network = capture(nn.DataParallel(SmallResNet().eval()), torch.rand(1, 3, 8, 8))
    assert "stem" in network.layer_names


def test_weight_norm_is_folded_and_hooks_are_recorded() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1))
    conv.register_forward_hook(lambda module, args, output: output * 2)
    model = nn.Sequential(conv, nn.ReLU()).eval()
    network = capture(model, torch.rand(1, 3, 4, 4))
    assert ops(network) == ["vn.conv2d", "vn.mul", "vn.relu"]
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(network(x), model(x))
    assert not network.layer("0")._forward_hooks


class Reads(nn.Module):
    """A layer that is called twice, and a parameter used by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.offset = nn.Parameter(torch.rand(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.conv(x))) + self.offset


def test_reused_layers_stay_shared() -> None:
    network = capture(Reads().eval(), torch.rand(1, 4, 5, 5))
    assert [node.name for node in network.nodes_of("conv")] == ["conv", "conv@1"]
    assert len(list(network.parameters())) == 3
    document = describe(network)
    assert [spec.name for spec in document.tensors] == ["conv/weight", "conv/bias", "offset/value"]


class Tied(nn.Module):
    """An encoder and a decoder with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 6)
        self.decode = nn.Linear(6, 6, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(F.relu(self.encode(x)))


def test_weights_that_layers_share_stay_shared() -> None:
    model = Tied().eval()
    network = capture(model, torch.rand(2, 6))
    assert network.layer("decode").weight is network.layer("encode").weight
    assert network.layer("decode").weight is not model.encode.weight
    assert [spec.name for spec in describe(network).tensors] == ["encode/weight", "encode/bias"]


def test_the_boundary_form_records_the_users_own_call() -> None:
    model = randomized(SmallResNet())
    x = torch.rand(2, 3, 8, 8)
    with amc.capturing(model) as boundary:
        expected = model(x)
    assert torch.equal(boundary.network(x), expected.detach())


def test_a_boundary_without_a_call_says_so() -> None:
    with amc.capturing(nn.ReLU()) as boundary:
        pass
    with pytest.raises(CaptureError, match="not called inside"):
        _ = boundary.network


def test_keyword_tensors_are_refused() -> None:
    model = TwoInputs().eval()
    with pytest.raises(CaptureError, match="by keyword"), amc.capturing(model):
        model(torch.rand(1, 3, 2, 2), b=torch.rand(1, 2, 2, 2))
