"""Convolutions: spellings, documents, MACs, shapes, and what is left when channels go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from amc_plugins.graph import capture, describe, handler_for, make_layer, rebuild, tensors_of
from amc_plugins.handlers import AmcError, Kept
from amc_plugins.plugin import GraphError

CONVS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "no-bias": lambda: nn.Conv2d(4, 6, 3, bias=False),
    "stride": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "uneven": lambda: nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 3), dilation=(2, 1)),
    "one-by-one": lambda: nn.Conv2d(4, 6, 1, stride=2),
    "dilation": lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), dilation=(2, 3)),
    "same": lambda: nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(3, 1)),
    "valid": lambda: nn.Conv2d(4, 6, 3, padding="valid"),
    "reflect": lambda: nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"),
    "replicate": lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="replicate", stride=2),
    "circular-same": lambda: nn.Conv2d(4, 6, (4, 2), padding="same", padding_mode="circular"),
    "groups": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "multiplier": lambda: nn.Conv2d(4, 12, 3, groups=4, bias=False),
}
TRANSPOSED: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.ConvTranspose2d(4, 6, 3),
    "no-bias": lambda: nn.ConvTranspose2d(4, 6, 3, bias=False),
    "double": lambda: nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
    "uneven": lambda: nn.ConvTranspose2d(4, 6, (3, 5), (3, 2), (1, 0), (2, 1), dilation=(1, 2)),
    "groups": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.ConvTranspose2d(4, 4, 3, groups=4),
    "multiplier": lambda: nn.ConvTranspose2d(4, 8, 2, stride=2, groups=4),
}
LAYERS = [("vn.conv2d", name, make) for name, make in CONVS.items()] + [
    ("vn.conv_transpose2d", name, make) for name, make in TRANSPOSED.items()
]
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
each_layer = pytest.mark.parametrize(
    ("op", "make"), [(op, make) for op, _, make in LAYERS], ids=[f"{o[3:]}-{n}" for o, n, _ in LAYERS]
)


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@each_layer
def test_documents_give_the_layer_back(op: str, make: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(make().double()).eval()
    x = image(2, 4, 11, 10)
    network = capture(model, x)
    document = describe(network)
    assert [node.op for node in document.nodes] == [op]
    state = torch.get_rng_state()
    again = rebuild(document, tensors_of(network))
    assert torch.equal(torch.get_rng_state(), state), "building draws no random numbers"
    assert describe(again).to_json() == document.to_json()
    assert torch.equal(again(x), model(x))
    handler = handler_for(op)
    layer = network.layer("0")
    assert handler.tensors(layer).keys() == model[0].state_dict().keys()
    assert repr(again.layer("0")) == repr(model[0])


@each_layer
def test_macs_and_shapes_are_exact(op: str, make: Callable[[], nn.Module]) -> None:
    module, x = make().double(), image(3, 4, 11, 10)
    handler = handler_for(op)
    params = handler.params(module)
    with FlopCounterMode(display=False) as counter:
        y = module(x)
    assert handler.shapes(params, [tuple(x.shape)]) == [tuple(y.shape)]
    assert 2 * handler.macs(params, [tuple(x.shape)], [tuple(y.shape)]) == counter.get_total_flops()


def test_macs_by_hand() -> None:
    conv = handler_for("vn.conv2d")
    params = conv.params(nn.Conv2d(16, 32, 3, padding=1, groups=4))
    assert conv.macs(params, [(2, 16, 8, 8)], [(2, 32, 8, 8)]) == 2 * 8 * 8 * 32 * (16 // 4) * 9
    transposed = handler_for("vn.conv_transpose2d")
    params = transposed.params(nn.ConvTranspose2d(16, 32, 4, stride=2, padding=1))
    assert transposed.macs(params, [(2, 16, 8, 8)], [(2, 32, 16, 16)]) == 2 * 8 * 8 * 16 * 32 * 16


# --- keep ----------------------------------------------------------------------------------------

CHOICES: dict[str, tuple[list[int], list[int], int]] = {  # kept inputs, kept outputs, groups left
    "plain": ([0, 2, 3], [1, 4], 1),
    "no-bias": ([1], [0, 1, 2, 3, 4, 5], 1),
    "stride": ([0, 1, 2, 3], [5], 1),
    "uneven": ([0, 3], [0, 2, 3], 1),
    "one-by-one": ([2], [1, 2], 1),
    "dilation": ([1, 3], [0, 4], 1),
    "same": ([1, 2], [0, 5], 1),
    "valid": ([1, 2], [0, 5], 1),
    "double": ([1, 2], [0, 5], 1),
    "reflect": ([1, 2], [0, 5], 1),
    "replicate": ([1, 2], [0, 5], 1),
    "circular-same": ([1, 2], [0, 5], 1),
    "groups": ([0, 2], [0, 2, 3, 5], 2),
    "depthwise": ([0, 3], [0, 3], 2),
    "multiplier": ([1, 3], [3, 4, 5, 9, 10, 11], 2),
}


@each_layer
def test_keep_equals_the_masked_layer(op: str, make: Callable[[], nn.Module], request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id.partition("-")[2]
    incoming, outgoing, groups = CHOICES[name]
    if op == "vn.conv_transpose2d" and name == "multiplier":
        outgoing = [2, 3, 6, 7]
    module, x = make().double().eval(), image(2, 4, 11, 10)
    y = module(x)
    left_in, left_out = torch.tensor(incoming), torch.tensor(outgoing)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    small: Any = handler_for(op).keep(module, [Kept(tuple(x.shape), {1: left_in})], [Kept(tuple(y.shape), {1: left_out})])
    masked = torch.zeros_like(x)
    masked[:, left_in] = x[:, left_in]
    assert (small(x[:, left_in]) - module(masked)[:, left_out]).abs().max() < 1e-12
    assert (small.in_channels, small.out_channels, small.groups) == (len(incoming), len(outgoing), groups)
    for attribute in ("kernel_size", "stride", "padding", "dilation", "padding_mode", "output_padding"):
        assert getattr(small, attribute) == getattr(module, attribute)
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key]), "the layer given is not changed"
        assert small.state_dict()[key].data_ptr() != tensor.data_ptr()
    priced: Any = handler_for(op).keep(
        make().to("meta"), [Kept(tuple(x.shape), {1: left_in})], [Kept(tuple(y.shape), {1: left_out})]
    )
    assert priced.weight.shape == small.weight.shape, "also without data"


def test_groups_may_keep_different_positions_but_not_different_counts() -> None:
    module, x = nn.Conv2d(6, 4, 3, groups=2).double(), image(1, 6, 5, 5)
    handler = handler_for("vn.conv2d")
    left = torch.tensor([0, 2, 3, 4])
    small = handler.keep(module, [Kept((1, 6, 5, 5), {1: left})], [Kept((1, 4, 3, 3))])
    masked = torch.zeros_like(x)
    masked[:, left] = x[:, left]
    assert (small(x[:, left]) - module(masked)).abs().max() < 1e-12
    with pytest.raises(GraphError, match=r"2 groups .* \[2, 1\] .*equal counts"):
        handler.keep(module, [Kept((1, 6, 5, 5), {1: torch.tensor([0, 2, 3])})], [Kept((1, 4, 3, 3))])
    whole = handler.keep(
        module, [Kept((1, 6, 5, 5), {1: torch.tensor([3, 4, 5])})], [Kept((1, 4, 3, 3), {1: torch.tensor([2, 3])})]
    )
    assert whole.groups == 1
    assert torch.equal(whole.weight, module.weight[2:])


def test_images_without_a_batch_axis() -> None:
    module, x = nn.Conv2d(4, 6, 3).double(), image(4, 5, 5)
    handler = handler_for("vn.conv2d")
    params = handler.params(module)
    assert handler.shapes(params, [(4, 5, 5)]) == [(6, 3, 3)]
    assert handler.macs(params, [(4, 5, 5)], [(6, 3, 3)]) == 54 * 36
    left = torch.tensor([0, 3])
    small = handler.keep(module, [Kept((4, 5, 5), {0: left})], [Kept((6, 3, 3))])
    masked = torch.zeros_like(x)
    masked[left] = x[left]
    assert (small(x[left]) - module(masked)).abs().max() < 1e-12


# --- spellings ----------------------------------------------------------------------------------------


class Called(nn.Module):
    def __init__(self, shape: tuple[int, ...], function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(6), requires_grad=False)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


DENSE, GROUPED = (6, 4, 3, 3), (6, 2, 3, 3)
SPELLINGS: list[tuple[str, tuple[int, ...], dict[str, Any], Callable[[Tensor, Tensor, Tensor], Tensor]]] = [
    ("vn.conv2d", DENSE, {"bias": False}, lambda x, w, b: F.conv2d(x, w)),
    ("vn.conv2d", DENSE, {"bias": True, "padding": [1, 1]}, lambda x, w, b: F.conv2d(x, w, b, 2, 1)),
    ("vn.conv2d", DENSE, {"padding": "same"}, lambda x, w, b: F.conv2d(x, bias=b, weight=w, padding="same")),
    (
        "vn.conv2d",
        DENSE,
        {"padding": "valid", "dilation": [2, 1]},
        lambda x, w, b: F.conv2d(x, w, padding="valid", dilation=(2, 1)),
    ),
    ("vn.conv2d", GROUPED, {"groups": 2, "in_channels": 4}, lambda x, w, b: F.conv2d(input=x, weight=w, bias=None, groups=2)),
    ("vn.conv2d", DENSE, {"stride": [2, 2], "bias": True}, lambda x, w, b: torch.conv2d(x, w, b, stride=[2])),
    ("vn.conv_transpose2d", (4, 6, 3, 3), {"bias": True}, F.conv_transpose2d),
    (
        "vn.conv_transpose2d",
        (4, 3, 3, 3),
        {"groups": 2, "out_channels": 6, "output_padding": [1, 1], "dilation": [2, 2]},
        lambda x, w, b: torch.conv_transpose2d(x, w, b, 3, 1, 1, 2, 2),
    ),
    (
        "vn.conv_transpose2d",
        (4, 6, 3, 3),
        {"stride": [2, 3], "padding": [1, 0], "bias": False},
        lambda x, w, b: F.conv_transpose2d(input=x, weight=w, stride=(2, 3), padding=(1, 0)),
    ),
]


@pytest.mark.parametrize(("op", "shape", "params", "function"), SPELLINGS)
def test_functional_calls_own_their_weights(op: str, shape: tuple[int, ...], params: dict[str, Any], function: Any) -> None:
    model = Called(shape, function).eval()
    x = image(2, 4, 9, 8).float()
    network = capture(model, x)
    (node,) = network.graph.nodes
    assert node.op == op
    assert params.items() <= node.params.items()
    module = network.layer(node.layer)
    assert torch.equal(module.weight, model.weight)
    assert module.weight.data_ptr() != model.weight.data_ptr()
    assert module.weight.requires_grad
    assert module.bias is None or not module.bias.requires_grad
    assert torch.equal(network(x), model(x))
    assert torch.equal(rebuild(describe(network), tensors_of(network))(x), model(x))


def test_computed_weights_stay_opaque() -> None:
    model = Called(DENSE, lambda x, w, b: F.conv2d(x, w * x.mean(), b)).eval()
    x = image(2, 4, 9, 8).float()
    network = capture(model, x)
    opaque = next(reason for name, reason in network.graph.metadata.items() if "conv2d" in name)
    assert "where a parameter was expected" in opaque
    assert torch.equal(network(x), model(x))


def test_weight_norm_is_folded() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))).eval()
    x = image(1, 3, 6, 6).float()
    network = capture(model, x)
    assert sorted(network.layer("0").state_dict()) == ["bias", "weight"]
    assert network.layer("0").weight.requires_grad
    assert torch.equal(network(x), model(x))


class UpTo(nn.Module):
    """A decoder step whose output size is that of an earlier feature map."""

    def __init__(self, size: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(self.down(x), output_size=self.size(x))
        return y


def test_the_output_size_of_a_transposed_convolution_stays_symbolic() -> None:
    model = UpTo(lambda x: x.size()).eval()
    network = capture(model, image(1, 3, 8, 8).float())
    again = rebuild(describe(network), tensors_of(network))
    for size in ((8, 8), (11, 14)):
        x = image(2, 3, *size).float()
        assert again(x).shape == x.shape
        assert torch.equal(again(x), model(x))


def test_a_literal_output_size_becomes_output_padding() -> None:
    network = capture(UpTo(lambda x: [8, 7]).eval(), image(1, 3, 8, 8).float())
    assert network.layer("up").output_padding == (1, 0)
    assert network(image(2, 3, 8, 8).float()).shape == (2, 3, 8, 7)


def test_wrong_tensors_are_refused() -> None:
    params = {"in_channels": 4, "out_channels": 6, "kernel_size": [3, 3]}
    with pytest.raises(AmcError, match=r"has the tensors \['bias', 'weight'\], given were \['weight'\]"):
        make_layer("vn.conv2d", params, {"weight": torch.zeros(6, 4, 3, 3)})
    with pytest.raises(AmcError, match=r"weight has shape \(6, 4, 3, 3\), given was \(6, 4, 3, 2\)"):
        make_layer("vn.conv2d", {**params, "bias": False}, {"weight": torch.zeros(6, 4, 3, 2)})
    with pytest.raises(AmcError, match="stride"):
        make_layer("vn.conv2d", {**params, "stride": [0, 1]}, {})
