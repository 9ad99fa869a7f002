"""Capture of what people's networks do besides calling layers: recorded bit by bit, or refused with the line and a hint."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.utils.checkpoint import checkpoint

import amc_plugins as amc
from amc_plugins.core.errors import CaptureError, SizeError
from amc_plugins.core.structure import tensors_in
from amc_plugins.graph import ReconstructedNetwork, capture
from amc_plugins.testing import assert_rebuilds
from tests.networks import SmallResNet, TwoInputs, randomized


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    assert not module_hooks._has_any_global_hook()
    assert not module_hooks._global_forward_hooks_with_kwargs
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert type(torch.rand(2).shape) is torch.Size, "a mode is still active"


class Forward(nn.Module):
    """A convolution and a linear layer around the function under test, which also gets the module."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.table = nn.Parameter(torch.linspace(-1, 1, 4).reshape(1, 4, 1, 1))
        self.register_buffer("steps", torch.arange(4.0))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def check(model: nn.Module, *example: Any, others: tuple[Any, ...] = ()) -> ReconstructedNetwork:
    """Captured and equal on the example, another batch and `others` (each a tuple of inputs)."""
    network = capture(model, *example)
    again = tuple(torch.cat([one.flip(0) * 0.9, one, one]) if isinstance(one, Tensor) else one for one in example)
    was_training = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        for inputs in (example, again, *others):
            copies = [[one.clone() if isinstance(one, Tensor) else one for one in inputs] for _ in range(2)]
            expected, given = tensors_in(model(*copies[0])), tensors_in(network.eval()(*copies[1]))
            assert len(expected) == len(given) > 0
            for a, b in zip(expected, given, strict=True):
                assert a.dtype == b.dtype and torch.equal(a, b)
    for module, mode in was_training:
        module.training = mode
    return network


IMAGE = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
WIDE = torch.randn(3, 3, 10, 12, generator=torch.Generator().manual_seed(1))


# --- modes inside forward ---


def no_grad_part(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        gate = self.conv(x).sigmoid()
    return self.conv(x) * gate


def inference_part(self: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        gate = self.conv(x).sigmoid()
        gate = gate * 2
    return self.conv(x) * gate.clone()


@torch.no_grad()
def decorated(self: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        return self.conv(x).detach().data + 1


def checkpointed(self: Any, x: Tensor) -> Any:
    return checkpoint(lambda y: F.relu(self.conv(y)), x, use_reentrant=False)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 2 * ctx.saved_tensors[0]


class Swish(torch.autograd.Function):
    """In place and marked dirty, as memory-saving activations are written."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * 2


def custom_function(self: Any, x: Tensor) -> Any:
    return Square.apply(self.conv(x)) + 1


def custom_in_place(self: Any, x: Tensor) -> Any:
    return Swish.apply(self.conv(x)) + 1


def tries_something_else(self: Any, x: Tensor) -> Tensor:
    try:
        y = self.conv(x[:, :2])
    except RuntimeError:
        y = self.conv(x)
    return F.relu(y)


# --- tensors made inside ---


def zeros_like(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    return torch.where(x > 0, x, torch.zeros_like(x)) + torch.ones_like(x)


def arange_of_a_size(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    return x + torch.arange(x.shape[-1], dtype=x.dtype, device=x.device) / x.shape[-1]


def new_zeros(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    return torch.cat([x, x.new_zeros(x.shape[0], 2, *x.shape[2:])], 1)


def full_of_sizes(self: Any, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return self.conv(x) + torch.full((b, 1, h, w), float(c))


def fixed_tensor(self: Any, x: Tensor) -> Tensor:
    return self.conv(x) * torch.tensor([0.5, 1.0, 1.5, 2.0]).view(1, -1, 1, 1) + self.steps.view(1, 4, 1, 1)


def grid(self: Any, x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    return torch.cat([self.conv(x), torch.stack([xs, ys]).unsqueeze(0).expand(x.size(0), -1, -1, -1)], 1)


def sized_tensor(self: Any, x: Tensor) -> Tensor:
    return self.conv(x) / torch.tensor([x.shape[2], x.shape[3]]).prod()


# --- sizes ---


def size_arithmetic(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    b, c, h, w = x.size()
    pad = (4 - h % 4) % 4
    x = F.pad(x, (0, 0, 0, pad))
    x = x.view(b, c // 2, 2, (h + pad) // 2, 2, w)
    return x.flatten(1, 2).reshape(b, -1, x.size(-1))[:, : c * h - 1]


def size_quotients(self: Any, x: Tensor) -> Tensor:
    import math

    x = self.conv(x)
    h, w = math.ceil(x.shape[2] / 4), math.floor(x.shape[3] / 3)
    q, r = divmod(x.shape[3], 3)
    return F.interpolate(x, size=(h + r, w + (q << 1) + (q >> 1) + q**2))


def size_comparisons(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    assert x.shape[2:] == y.shape[2:] and len(y.shape) == y.dim() == 4 and x.shape != y.shape
    if y.shape[1] > x.shape[1] and y.shape[-1] != 0 and not torch.jit.is_tracing() and not torch.jit.is_scripting():
        y = y[:, : x.shape[1]]
    n, _, *rest = y.shape
    return y.reshape(n, -1, *rest) * (1 if y.shape[0] >= 1 else 2) + max(y.shape[1], 1)


def size_of_entries(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    return x.reshape(x.shape.numel() // 4, 4) / x.numel() + torch.numel(x[0]) / torch.ones(x.nelement() // 4, 4)


def size_of_sizes(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    return x.expand(x.shape).reshape((*x.shape[:2], -1)) * torch.ones(x.shape[:1] + torch.Size([1, 1]))


# --- in place, views, identities ---


def in_place_chain(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    x += 1
    x *= x.sigmoid()
    F.relu_(x)
    x.add_(x, alpha=0.5).clamp_(max=2.0)
    F.leaky_relu(x, 0.1, inplace=True)
    torch.sigmoid_(x)
    return x


def in_place_old_value(self: Any, x: Tensor) -> Tensor:
    """The name `y` is of the tensor that is changed later: it holds the new value, as in the original."""
    y = self.conv(x)
    z = y.relu_()
    z.mul_(3)
    return y + z


def writes_into(self: Any, x: Tensor) -> Tensor:
    """The temporal shift of TSM: slices of a fresh tensor are assigned."""
    x = self.conv(x)
    y = torch.zeros_like(x)
    y[:, 1:] = x[:, :-1]
    y[:, :1, 1:-1] = 2.0
    return y


def writes_where_a_mask_is_true(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    x[x > 0.25] = 0.5
    x[x < -0.25] = x.mean()
    y = x.clone()
    y[:, 1:][y[:, 1:] == 0.5] = -1
    return x * y


def out_argument(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    y = torch.empty_like(x)
    torch.mul(x, 2.0, out=y)
    return y + x


def the_same_twice(self: Any, x: Tensor) -> Any:
    y = self.conv(x)
    return y, [y, {"again": y.float(), "input": x}], y.to(torch.float32)


def tokens(self: Any, x: Tensor) -> Any:
    """Conversions that change nothing, questions, and constants of the network."""
    y = self.conv(x).to(self.table.dtype).to(x.device).contiguous()
    if y.is_cuda or y.requires_grad or y.dtype == torch.float16 or not y.is_contiguous():
        y = y.half()
    return y * self.table.exp() + self.steps[1] - F.softmax(self.steps, 0).reshape(1, 4, 1, 1)


def writes_a_view(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    x[:, :1].mul_(2)
    return x + 1


def writes_a_chunk(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    a, b = x.chunk(2, 1)
    a += b
    return F.relu(x)


def writes_under_a_view(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    first = x[:, :1]
    x.mul_(2)
    return torch.cat([first, x], 1)


def relu_on_a_view(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    nn.functional.relu(x.view(x.size(0), -1), inplace=True)
    return x.mean(1)


def out_into_a_view(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    torch.mul(x[:, :2], 2.0, out=x[:, 2:])
    return x * 2


def writes_in_inference_mode(self: Any, x: Tensor) -> Tensor:
    with torch.inference_mode():
        y = self.conv(x)
        y[:, :1].mul_(2)
        return y + 1


WORKING = [
    no_grad_part, inference_part, decorated, checkpointed, custom_function, tries_something_else,
    zeros_like, arange_of_a_size, new_zeros,
    full_of_sizes, fixed_tensor, grid, sized_tensor, size_arithmetic, size_quotients, size_comparisons, size_of_entries,
    size_of_sizes, in_place_chain, in_place_old_value, writes_into,
    writes_where_a_mask_is_true, out_argument, the_same_twice, tokens,
    writes_a_view, writes_a_chunk, writes_under_a_view, relu_on_a_view, out_into_a_view, custom_in_place,
    writes_in_inference_mode,
]  # fmt: skip


@pytest.mark.parametrize("function", WORKING, ids=lambda function: function.__name__)
def test_recorded(function: Callable[[Any, Tensor], Any]) -> None:
    network = check(Forward(function), IMAGE, others=((WIDE,),))
    assert network.graph.inputs[0].shape[0] is None, "another batch size was not tried"


def test_masks_that_are_computed_need_no_opaque_node() -> None:
    network = capture(Forward(writes_where_a_mask_is_true), IMAGE, strict=True)
    assert [node.op for node in network.graph.nodes].count("vn.masked_fill") == 3
    assert_rebuilds(network, IMAGE)
    with pytest.raises(amc.AmcError, match="__getitem__"):  # as many entries as the data says
        capture(Forward(values_where_a_mask_is_true), IMAGE, strict=True)


def values_where_a_mask_is_true(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    x[x > 0] = x[x > 0] * 2
    return x


def autocast(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return self.conv(x).float()


def through_numpy(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    return x + torch.from_numpy(x.detach().numpy() * 2)


def a_value_taken_out(self: Any, x: Tensor) -> Tensor:
    """The largest entry of the example would be in the record for good."""
    x = self.conv(x)
    return x / x.abs().max().item()


def a_plain_batch(self: Any, x: Tensor) -> Tensor:
    return self.conv(x).sum() / float(len(x))


def writes_through_strides(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    x.as_strided((2, 2), (4, 1)).mul_(2)
    return x + 1


def writes_a_diagonal(self: Any, x: Tensor) -> Tensor:
    x = self.conv(x)
    x.diagonal(dim1=2, dim2=3).mul_(2)
    return x + 1


class OneChannelInPlace(nn.Module):
    """`relu_` leaves one channel's strides those of channels last, `relu` does not, and the convolution's kernel differs."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.conv = nn.Linear(3, 1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((self.mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * 1.0).relu_())


@pytest.mark.parametrize("size", [(9, 11), (32, 32)])
def test_what_rounds_otherwise_for_its_strides_is_no_difference(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = OneChannelInPlace().eval()
    network = capture(model, torch.randn(2, 3, *size), strict=True)
    assert [spec.shape[0] for spec in network.graph.inputs] == [None]
    x = torch.randn(3, 3, 20, 30)
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-6)


def test_more_than_rounding_is_a_difference_whatever_the_strides() -> None:
    class Scaled(OneChannelInPlace):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1.0 + 1e-4 * float(x.detach().numpy().max()))

    with pytest.raises(CaptureError, match="`mul_1` at"):
        capture(Scaled().eval(), torch.randn(2, 3, 9, 11))


class LargeImagesCannotBeRecorded(nn.Module):
    """A branch that the example does not take writes into a view in a way that capture refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if x.shape[2] > 20:
            y = y + 0
            y.diagonal(dim1=2, dim2=3).mul_(2)
            return y + 1
        return y


def test_a_way_that_the_example_does_not_take_need_not_be_recordable() -> None:
    model, x = LargeImagesCannotBeRecorded().eval(), torch.randn(2, 3, 12, 12)
    network = capture(model, x)
    assert torch.equal(network(x), model(x))
    with pytest.raises(SizeError, match="recorded for inputs with"):
        network(torch.randn(2, 3, 32, 32))


REFUSED = [
    (writes_through_strides, r"changed in place through a view"),
    (writes_a_diagonal, r"changed in place through a view"),
    (autocast, r"`conv` at \S+ is the first node whose output differs"),
    (through_numpy, r"`constant_0` at"),
    (a_value_taken_out, r"`div_0` at"),
    (a_plain_batch, r"`div_0` at"),
]


@pytest.mark.parametrize(("function", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_refused_with_the_line(function: Callable[[Any, Tensor], Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message) as caught:
        capture(Forward(function), IMAGE)
    assert "test_capture_robustness.py:" in str(caught.value) and caught.value.hint


# --- data-dependent control flow ---


class Branches(nn.Module):
    """Bright images take another way."""

    def __init__(self) -> None:
        super().__init__()
        self.dark = nn.Conv2d(3, 4, 1)
        self.bright = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0.9:
            return self.bright(x)
        for one in x.flatten(1).amax(1).tolist():
            if one > 100.0:
                return self.dark(x) * 2
        return self.dark(x)


def test_other_data_may_take_another_way(caplog: pytest.LogCaptureFixture) -> None:
    model = Branches()
    with caplog.at_level("WARNING", logger="amc_plugins.capture"):
        network = capture(model, torch.ones(2, 3, 4, 4))  # smaller values would be dark
    assert network.layer_names == ["bright"] and "control flow depends on the data" in caplog.text
    assert "control_flow" in network.graph.metadata and network.graph.inputs[0].shape[0] is None
    bright = 1.0 + torch.rand(5, 3, 4, 4)
    assert torch.equal(network(bright), model(bright))
    caplog.clear()
    assert capture(model, torch.zeros(2, 3, 4, 4)).layer_names == ["dark"]
    assert "took" not in caplog.text  # other data took the same way; where it is chosen is said all the same
    assert caplog.text.count("numbers are read from the data") == 1 == caplog.text.count("`torch.Tensor.tolist`")


# --- layers ---


def test_parametrized_layers_are_plain_afterwards() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        old_style = nn.utils.weight_norm(nn.Conv2d(4, 4, 1))
    layers = [
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1)),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)),
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
        nn.utils.spectral_norm(nn.Linear(4, 4)),
    ]

    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    nn.utils.parametrize.register_parametrization(layers[2], "bias", Double())
    model = nn.Sequential(layers[0], layers[1], old_style, layers[2], layers[3]).eval()
    before = copy.deepcopy(model.state_dict())
    network = check(model, torch.randn(2, 3, 4, 4))
    for name in ("0", "1", "2", "3", "4"):
        assert set(network.layer(name).state_dict()) == {"weight", "bias"}
        assert type(network.layer(name)) in (nn.Conv2d, nn.Linear) and not network.layer(name)._forward_pre_hooks
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert_rebuilds(network, torch.randn(3, 3, 4, 4))


class Nested(nn.Module):
    """A block with keyword arguments, called twice, with blocks in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.lock = threading.Lock()  # state that cannot be copied
        self.cache: dict[Any, Any] = {"calls": []}

    def forward(self, *, left: Tensor, right: Tensor | None = None, scale: float = 1.0) -> Tensor:
        y = self.act(input=self.conv(input=left)) * scale
        with self.lock:
            self.cache["calls"].append(tuple(left.shape))
        return y if right is None else y + right


class Caller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.block = Nested()
        self.alias = self.block
        self.layers = nn.ModuleDict({"keys_": nn.Conv2d(4, 4, 1), "a/b": self.stem})

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers["a/b"](x)
        y = self.block(left=x)
        z = self.alias(left=y, right=x, scale=0.5)
        return self.layers["keys_"](z + self.block.conv(y))


def test_blocks_that_are_called_again_by_keyword_and_under_another_name() -> None:
    network = check(Caller(), IMAGE, others=((WIDE,),))
    assert [node.name for node in network.nodes_of("block.conv")] == ["block.conv", "block.conv@1", "block.conv@2"]
    assert len(list(network.parameters())) == 6
    assert_rebuilds(network, IMAGE)


def test_hooks_of_the_user_are_part_of_the_network() -> None:
    seen: list[Any] = []
    model = Caller()
    model.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
    model.register_forward_hook(lambda module, args, output: output + 1)
    model.stem.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    model.block.register_forward_pre_hook(lambda module, args, kwargs: (args, {**kwargs, "scale": 3.0}), with_kwargs=True)
    model.block.register_forward_hook(lambda module, args, kwargs, output: output.tanh() + kwargs["left"], with_kwargs=True)
    model.block.act.register_forward_hook(lambda module, args, output: output.mul_(2), always_call=True)
    model.block.conv.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {"input": -kwargs["input"]}), with_kwargs=True
    )
    model.block.conv.register_full_backward_hook(lambda module, grads, more: None)
    model.block.forward = model.block.forward  # type: ignore[method-assign]
    hooks = {name: [*map(len, _hooks(module))] for name, module in model.named_modules()}
    model.layers["keys_"].register_forward_pre_hook(lambda module, args: None)
    with pytest.raises(TypeError, match="left"):
        model.block()
    model.block.conv._forward_pre_hooks.clear()
    model.block.conv._forward_pre_hooks_with_kwargs.clear()
    hooks["block.conv"][1] = 0
    hooks["layers.keys_"][1] = 1
    network = check(model, IMAGE, others=((WIDE,),))
    assert seen
    assert hooks == {name: [*map(len, _hooks(module))] for name, module in model.named_modules()}
    assert not any(any(map(len, _hooks(module))) for module in network.modules())


def _hooks(module: nn.Module) -> tuple[Any, ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks


def test_pre_hooks_of_a_layer_that_change_its_input() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    model[0].register_forward_pre_hook(lambda module, args: (args[0].abs(),))
    model[1].register_forward_pre_hook(lambda module, args, kwargs: ((args[0] - 1,), kwargs), with_kwargs=True)
    network = check(model, IMAGE)
    assert "abs" in " ".join(network.layer_names)


# --- modes, dtypes, devices ---


def test_models_in_training_mode_keep_every_mode() -> None:
    model = randomized(SmallResNet()).train()
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    network = capture(model, torch.randn(2, 3, 8, 8))
    assert modes == [module.training for module in model.modules()]
    assert not any(module.training for module in network.modules())
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(network(x), copy.deepcopy(model).eval()(x))
    with amc.capturing(model) as boundary, torch.no_grad():
        model(torch.randn(2, 3, 8, 8))
    assert boundary.network.training and modes == [module.training for module in model.modules()]
    assert torch.equal(boundary.network.eval()(x), model.eval()(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    model = randomized(SmallResNet()).to(dtype)
    network = check(model, torch.randn(2, 3, 8, 8).to(dtype))
    assert {tensor.dtype for tensor in network.parameters()} == {dtype}
    assert_rebuilds(network, torch.randn(2, 3, 8, 8).to(dtype))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda() -> None:
    model = randomized(SmallResNet()).cuda()
    network = check(model, torch.randn(2, 3, 8, 8, device="cuda"))
    assert all(tensor.is_cuda for tensor in network.state_dict().values())
    assert_rebuilds(network, torch.randn(2, 3, 8, 8, device="cuda"))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = randomized(SmallResNet())
    x = torch.randn(2, 3, 8, 8)
    network = capture(wrap(nn.DataParallel(model)), x)
    assert "layer1.0.conv1" in network.layer_names
    assert torch.equal(network(x), model(x))


def test_distributed_wrappers_are_taken_off(tmp_path: Path) -> None:
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        model = randomized(SmallResNet())
        wrapped = nn.parallel.DistributedDataParallel(model)
        x = torch.randn(2, 3, 8, 8)
        for outer in (wrapped, nn.DataParallel(wrapped), torch.compile(wrapped, backend="eager")):
            network = capture(outer, x)
            assert torch.equal(network(x), model(x))
            assert {"stem", "layer1.0.conv1", "fc"} <= set(network.layer_names)
            assert not any("module" in name.split(".") for name in network.layer_names)
    finally:
        distributed.destroy_process_group()


def test_parts_that_are_compiled_run_as_written() -> None:
    model = randomized(SmallResNet())
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    parts = model.layer1[0] = torch.compile(model.layer1[0], backend="eager")
    relu = torch.compile(lambda y: F.relu(y) + 1, backend="eager")
    model.fc.register_forward_hook(lambda module, args, output: relu(output))
    network = capture(model, x)
    assert {"layer1.0.conv1", "layer1.1.conv1", "relu_1"} <= set(network.layer_names)
    assert torch.equal(network(x), F.relu(expected) + 1)
    assert model.layer1[0] is parts


def test_scripted_parts_are_refused_with_their_name() -> None:
    model = randomized(SmallResNet())
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        model.layer2 = torch.jit.trace(model.layer2, torch.rand(1, 8, 4, 4))  # type: ignore[assignment]
    with pytest.raises(CaptureError, match=r"`layer2` is a TorchScript module") as caught:
        capture(model, torch.randn(2, 3, 8, 8))
    assert caught.value.hint


# --- inputs and outputs ---


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: dict[str, Any], scales: list[Tensor], flag: bool = True) -> OrderedDict[str, Any]:
        x = self.conv(images["x"]) * scales[0] + images["more"][0]
        x = x if flag else x * -1
        return OrderedDict(y=x, size=x.shape[0], all=(scales[1], [x[:, 0], None], "text"), width=x.shape[-1] * 2)


def test_lists_and_dictionaries_in_and_out() -> None:
    model = Structured()

    def inputs(batch: int) -> tuple[Any, ...]:
        def maps(channels: int) -> Tensor:
            return torch.randn(batch, channels, 4, 5)

        return {"x": maps(3), "more": (maps(1),)}, [maps(4), maps(1)], False

    network = capture(model, *inputs(2))
    for batch in (1, 2, 5):
        given = inputs(batch)
        expected, found = model(*given), network(*given)
        assert found["size"] == batch and found["width"] == 10 and found["all"][2] == "text" and found["all"][1][1] is None
        assert all(torch.equal(a, b) for a, b in zip(tensors_in(expected), tensors_in(found), strict=True))
    assert_rebuilds(network, *inputs(2))


class Pair(NamedTuple):
    first: Tensor
    second: int


@dataclass
class Result:
    logits: Tensor


def test_outputs_of_other_classes() -> None:
    assert capture(Forward(lambda self, x: Pair(self.conv(x), x.shape[0])), IMAGE)(WIDE)[1] == 3
    with pytest.raises(CaptureError, match="`output` holds a Result") as caught:
        capture(Forward(lambda self, x: Result(self.conv(x))), IMAGE)
    assert caught.value.hint


def test_a_fixed_batch_stays_fixed() -> None:
    network = capture(Forward(lambda self, x: self.conv(x).view(2, 4, 6, 8)), IMAGE)
    assert network.graph.inputs[0].shape == [2, 3, 6, 8]


def test_a_number_from_sizes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="amc_plugins.capture"):
        network = check(Forward(lambda self, x: self.conv(x) * (1 / x.shape[-1])), IMAGE)
    assert "test_capture_robustness.py:" in network.graph.metadata["fixed_sizes"] and "fixed" in caplog.text


# --- around capture ---


def test_captured_networks_can_be_copied_and_captured_again() -> None:
    model = randomized(SmallResNet())
    x = torch.randn(2, 3, 8, 8)
    network = capture(model, x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), network.clone()):
        assert torch.equal(other(x), model(x))
        assert not {id(one) for one in other.parameters()} & {id(one) for one in network.parameters()}
    again = capture(network, x)
    assert torch.equal(again(WIDE[..., :8, :8]), model(WIDE[..., :8, :8]))
    assert [node.op for node in again.graph.nodes] == [node.op for node in network.graph.nodes]
    assert_rebuilds(again, x)


def test_nested_captures_do_not_disturb_each_other() -> None:
    outer, inner = randomized(SmallResNet()), TwoInputs().eval()
    x, pair = torch.randn(2, 3, 8, 8), (torch.rand(2, 3, 4, 4), torch.rand(2, 2, 4, 4))
    with amc.capturing(outer) as first, torch.no_grad():
        with amc.capturing(inner) as second:
            inner(*pair)
        inside = second.network
        outer(x)
    assert torch.equal(first.network(x), outer(x))
    assert torch.equal(inside(*pair)["sum"], inner(*pair)["sum"])


class CapturesItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = randomized(SmallResNet())
        self.found: list[ReconstructedNetwork] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.found:
            self.found.append(capture(self.part, x))
        return self.part(x) + 1


def test_a_capture_inside_a_captured_forward() -> None:
    model = CapturesItself()
    x = torch.randn(2, 3, 8, 8)
    network = capture(model, x)
    assert torch.equal(network(x), model(x)) and torch.equal(model.found[0](x), model.part(x))
    assert "part.stem" in network.layer_names and "part.fc" in network.layer_names


def test_threads_do_not_see_each_others_records() -> None:
    models = [randomized(SmallResNet(), seed=seed) for seed in range(4)]
    x = torch.randn(2, 3, 8, 8)
    found: dict[int, Any] = {}

    def work(index: int) -> None:
        try:
            found[index] = [capture(models[index], x) for _ in range(3)]
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            found[index] = error

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, model in enumerate(models):
        assert isinstance(found[index], list), found[index]
        assert all(torch.equal(network(x), model(x)) for network in found[index])


class Fails(nn.Module):
    """Raises at the `depth`-th of its nested calls, in a layer, in a hook or in a function."""

    def __init__(self, where: str, error: type[BaseException]) -> None:
        super().__init__()
        self.where, self.error = where, error
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)))
        if where == "hook":
            self.body[1][1].register_forward_hook(self._raise)
        elif where == "pre_hook":
            self.body[1][0].register_forward_pre_hook(self._raise)
        elif where == "parametrization":
            nn.utils.parametrize.register_parametrization(self.body[1][1], "weight", _Explodes(error), unsafe=True)

    def _raise(self, *_: Any) -> None:
        raise self.error("the user's own")

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "layer":
            return self.body(x[:, :2])
        x = self.body(x)
        if self.where == "function":
            return x.view(7, 7, 7)
        return self._raise() or x


class _Explodes(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def forward(self, weight: Tensor) -> Tensor:
        if weight.requires_grad and not torch.is_grad_enabled():
            raise self.error("the user's own")
        return weight


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("end", ZeroDivisionError),
        ("end", KeyboardInterrupt),
        ("hook", ZeroDivisionError),
        ("pre_hook", SystemExit),
        ("parametrization", ZeroDivisionError),
        ("layer", RuntimeError),
        ("function", RuntimeError),
    ],
)
def test_a_model_that_raises_leaves_nothing_behind(where: str, error: type[BaseException]) -> None:
    model = Fails(where, error)
    model.body[1].eval()
    model.body[0].weight.requires_grad_(False)
    before = everything_of(model)
    with pytest.raises(error):
        capture(model, IMAGE)
    assert everything_of(model) == before
    assert not module_hooks._has_any_global_hook() and torch.is_grad_enabled()
    check(Forward(no_grad_part), IMAGE)


def everything_of(model: nn.Module) -> list[Any]:
    """Modes, hooks, attributes, and of each tensor who it is, its bits, flags, gradient and how often it was written."""
    found: list[Any] = [torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.backends.mha.get_fastpath_enabled()]
    for name, module in model.named_modules():
        found += [name, id(module), module.training, [*map(len, _hooks(module))], sorted(vars(module)), list(module._modules)]
    for tensor in (*model.parameters(), *model.buffers()):
        bits = tensor.detach().clone().view(torch.int32).tolist() if tensor.dtype == torch.float32 else tensor.tolist()
        found += [id(tensor), bits, tensor.requires_grad, tensor.grad is None, tensor._version, tensor.data_ptr()]
    return found


@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_was_captured_is_what_it_was(training: bool) -> None:
    model = nn.Sequential(SmallResNet(), nn.BatchNorm1d(10), nn.utils.parametrizations.weight_norm(nn.Linear(10, 4)))
    model.train(training)[0].layer1.train(not training)
    model[0].fc.bias.requires_grad_(False)
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    before, state = everything_of(model), torch.get_rng_state()
    capture(model, torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert everything_of(model) == before
    assert torch.equal(torch.get_rng_state(), state)
