"""The convolution as a linear map: `weight @ patch + bias` is the response at every sampled position."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from amc_plugins.graph import handler_for
from amc_plugins.plugin import GraphError

if TYPE_CHECKING:
    from amc_plugins.handlers import LinearMap

LAYERS: dict[str, Callable[[], nn.Conv2d]] = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "stride": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    "uneven": lambda: nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 3), dilation=(2, 1)),
    "one-by-one": lambda: nn.Conv2d(4, 6, 1, stride=2),
    "dilation": lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), dilation=(2, 3)),
    "same-asymmetric": lambda: nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(3, 1)),
    "valid": lambda: nn.Conv2d(4, 6, 3, padding="valid", stride=(1, 3)),
    "reflect": lambda: nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect"),
    "replicate": lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="replicate", stride=2),
    "circular-same": lambda: nn.Conv2d(4, 6, (4, 2), padding="same", padding_mode="circular"),
    "groups": lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
}
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def linear_map(module: nn.Module) -> LinearMap:
    found = handler_for("vn.conv2d").linear(module)
    assert found is not None
    return found


def responses_of(one: LinearMap, patches: Tensor) -> Tensor:
    blocks = zip(patches.chunk(one.groups, 1), one.weight.chunk(one.groups), strict=True)
    found = torch.cat([patch @ weight.T for patch, weight in blocks], 1)
    return found if one.bias is None else found + one.bias


@pytest.mark.parametrize("per_sample", [None, 7])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_patches_give_the_responses(make: Callable[[], nn.Conv2d], per_sample: int | None) -> None:
    torch.manual_seed(0)
    module = make()
    x = torch.randn(3, 4, 11, 9)
    with torch.no_grad():
        y = module(x)
    one = linear_map(module)
    positions = one.positions(tuple(y.shape), per_sample, torch.Generator().manual_seed(5))
    patches = one.patches(x, positions)
    assert patches.shape == (len(positions), one.in_channels * one.taps)
    assert (responses_of(one, patches) - one.responses(y, positions)).abs().max() < 1e-5
    if per_sample is None:
        assert len(positions) == y.numel() // y.shape[1]
        assert torch.equal(one.responses(y, positions), y.permute(0, 2, 3, 1).flatten(0, 2))


def test_a_patch_by_hand() -> None:
    module = nn.Conv2d(2, 1, 2, padding=1)
    x = torch.arange(18.0).reshape(1, 2, 3, 3)
    one = linear_map(module)
    patches = one.patches(x, torch.tensor([0, 5, 15]))  # output map 4 x 4: corner, (1, 1), other corner
    assert patches.tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 9],
        [0, 1, 3, 4, 9, 10, 12, 13],
        [8, 0, 0, 0, 17, 0, 0, 0],
    ]
    assert torch.equal(one.weight, module.weight.flatten(1))


def test_positions_are_uniform_distinct_and_seeded() -> None:
    one = linear_map(nn.Conv2d(1, 1, 1))
    draw = one.positions((500, 1, 4, 5), 3, torch.Generator().manual_seed(2))
    assert draw.shape == (1500,)
    rows = draw.view(500, 3)
    assert torch.equal(rows // 20, torch.arange(500)[:, None].expand(500, 3)), "three of each sample"
    assert (rows.diff(dim=1) > 0).all(), "distinct, ascending"
    counts = (rows % 20).flatten().bincount(minlength=20).double()
    expected = torch.full((20,), 75.0, dtype=torch.float64)
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-square with 19 degrees of freedom: 1 in 10^4
    assert torch.equal(draw, one.positions((500, 1, 4, 5), 3, torch.Generator().manual_seed(2)))
    state = torch.get_rng_state()
    assert len(one.positions((2, 1, 2, 2), 9, torch.Generator())) == 8, "a map with fewer positions gives all of them"
    assert torch.equal(torch.get_rng_state(), state)


def test_rebuilt_layers_have_the_hyper_parameters() -> None:
    module = nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(3, 1), padding_mode="circular")
    one = linear_map(module)
    same = one.rebuilt(one.weight, one.bias)
    x = torch.randn(2, 4, 9, 9)
    assert torch.equal(same(x), module(x))
    fewer = one.rebuilt(one.weight[:3, : 2 * 8], None)
    assert isinstance(fewer, nn.Conv2d)
    assert (fewer.in_channels, fewer.out_channels, fewer.bias) == (2, 3, None)
    assert (fewer.padding, fewer.dilation, fewer.padding_mode) == ("same", (3, 1), "circular")
    grouped = linear_map(nn.Conv2d(4, 6, 3, groups=2)).rebuilt(torch.randn(4, 9), torch.randn(4))
    assert grouped(torch.randn(1, 2, 5, 5)).shape == (1, 4, 3, 3)
    with pytest.raises(GraphError, match="2 groups and kernels of 9 taps"):
        linear_map(nn.Conv2d(4, 6, 3, groups=2)).rebuilt(torch.randn(3, 9), None)


def test_transposed_convolutions_are_no_patch_maps() -> None:
    assert handler_for("vn.conv_transpose2d").linear(nn.ConvTranspose2d(2, 3, 2)) is None
