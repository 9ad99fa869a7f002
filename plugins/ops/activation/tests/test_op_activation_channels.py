"""What activations do to channels, and what is left of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.graph import capture, channel_map, handler_for
from amc_plugins.handlers import Kept
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Chain(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.last = nn.Conv2d(3, 6, 3), act, nn.Conv2d(6, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.act(self.first(x)))
        return y


ZERO_AT_ZERO = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(0.2),
    nn.ELU(),
    nn.SiLU(),
    nn.GELU(),
    nn.Hardswish(),
    nn.Tanh(),
    nn.Mish(),
    nn.SELU(),
]


@pytest.mark.parametrize("act", [*ZERO_AT_ZERO, nn.Hardtanh(), nn.PReLU(), nn.PReLU(6), nn.Dropout(), nn.Identity()], ids=str)
def test_removed_channels_pass_through(act: nn.Module) -> None:
    if isinstance(act, nn.PReLU):
        act.weight.data = torch.linspace(0.1, 0.6, act.num_parameters)
    model = Chain(act).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    network = capture(model, x)
    channels = channel_map(network)
    group = channels.group("first")
    assert not group.pinned
    assert group.consumers == ("last",)
    assert group.followers == (("act",) if getattr(act, "num_parameters", 1) > 1 else ())
    small = channels.shrink(group.ids[[1, 4, 5]])
    with torch.no_grad():
        for tensor in (model.first.weight, model.first.bias):
            tensor[[1, 4, 5]] = 0
        assert small.layer("first").out_channels == 3
        assert (small(x) - model(x)).abs().max() < 1e-10
    if group.followers:
        assert torch.equal(small.layer("act").weight, act.weight[[0, 2, 3]])


@pytest.mark.parametrize("act", [nn.Sigmoid(), nn.Hardsigmoid(), nn.Softplus(), nn.LogSigmoid()], ids=str)
def test_channels_pass_through_where_zero_does_not_stay_zero(act: nn.Module) -> None:
    model = Chain(act).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    channels = channel_map(capture(model, x))
    group = channels.group("first")
    assert not group.pinned
    small = channels.shrink(group.ids[[0, 2]])
    with torch.no_grad():
        model.last.weight[:, [0, 2]] = 0
    assert (small(x) - model(x)).abs().max() < 1e-10


@pytest.mark.parametrize("dim", [1, 2])
def test_the_halves_of_a_gated_unit_go_together(dim: int) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(6 if dim == 1 else 12, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(F.glu(self.first(x), dim))
            return y

    x = torch.randn(2, 3, 8, 8)
    network = capture(Gated(), x, strict=True)
    group = channel_map(network).group("first")
    assert not group.pinned and len(group) == (6 if dim == 1 else 12)
    smaller = assert_masked_equals_shrunk(network, x, removed=group.ids[[1, 2, 4, 5]])
    assert smaller.layer("first").out_channels == (4 if dim == 1 else 8)
    assert_rebuilds(smaller, x.double())


@pytest.mark.parametrize("op", [nn.Softmax, nn.LogSoftmax])
@pytest.mark.parametrize(("dim", "pinned"), [(1, True), (-3, True), (2, False), (-1, False)])
def test_softmax_pins_channels_only_along_their_axis(op: type[nn.Module], dim: int, pinned: bool) -> None:
    model = Chain(op(dim=dim)).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    channels = channel_map(capture(model, x))
    group = channels.group("first")
    assert bool(group.pinned) is pinned
    if pinned:
        assert "is taken over channels" in group.pinned[0]
        return
    small = channels.shrink(group.ids[[0, 2]])
    with torch.no_grad():
        model.last.weight[:, [0, 2]] = 0
    assert (small(x) - model(x)).abs().max() < 1e-10


def test_softmax_over_a_merged_axis_pins() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 9, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(F.softmax(torch.flatten(self.conv(x), 1), dim=1))
            return y

    pytest.importorskip("amc_op_shape")
    channels = channel_map(capture(Flat().eval(), torch.randn(1, 3, 5, 5)))
    (group,) = (one for one in channels.groups if one.producers == ("conv",))
    assert group.pinned


def test_prelu_keeps_the_slopes_of_kept_channels() -> None:
    handler = handler_for("vn.prelu")
    module = nn.PReLU(5)
    module.weight.data = torch.arange(5.0)
    kept = Kept((2, 5, 4, 4), {1: torch.tensor([0, 3])})
    assert handler.keep(module, [kept], [kept]).weight.tolist() == [0.0, 3.0]
    shared = nn.PReLU()
    assert handler.keep(shared, [kept], [kept]) is shared


def test_building_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    handler_for("vn.prelu").build(handler_for("vn.prelu").Params(num_parameters=3), {"weight": torch.ones(3)})
    assert torch.equal(torch.get_rng_state(), state)
