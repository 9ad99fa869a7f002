"""What Python sees of sizes while a network is recorded: kept symbolic, or required of every input, or without effect."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.core.diagnosis import diagnose
from amc_plugins.core.errors import CaptureError, SizeError
from amc_plugins.graph import ReconstructedNetwork, capture, channel_map
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds


class Net(nn.Module):
    """A convolution, and the function under test on its result."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.function, self.last = nn.Conv2d(3, 8, 3, padding=1), function, nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def image(height: int, width: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height * width))


def requirements(network: ReconstructedNetwork) -> list[str]:
    return [network.layer(node.layer).extra_repr() for node in network.graph.nodes if node.op == "vn.require"]


# --- symbolic ---


def rounded(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(round(x.shape[2] / 4), round(x.shape[3] / 3) + round(7 / x.shape[2])))


def convolution_formula(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(math.floor((x.shape[2] + 2 * 1 - 3) / 2 + 1), math.ceil(x.shape[3] * 0.75 - 1)))


def of_floats(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(math.floor(x.shape[2] / 2.0), math.trunc(x.shape[3] * 0.5)))


def half_negative(x: Tensor) -> Tensor:
    return F.pad(x, (0, math.floor((1 - x.shape[3]) / 2) + 20, 0, math.prod(x.shape[2:]) % 5))


@pytest.mark.parametrize("function", [rounded, convolution_formula, of_floats, half_negative])
def test_arithmetic_stays_symbolic(function: Callable[[Tensor], Tensor]) -> None:
    model = Net(function).eval()
    network = capture(model, image(8, 12), strict=True)
    assert not requirements(network)
    for height in range(5, 20):
        x = image(height, 2 * height + 1)
        assert torch.equal(network(x), model(x)), height
    assert_rebuilds(network, image(8, 12))


# --- required ---


def padded(x: Tensor) -> Tensor:
    """As TinyViT and Twins cut images into windows."""
    height, width = x.shape[2:]
    bottom, right = (4 - height % 4) % 4, (4 - width % 4) % 4
    y = F.pad(x, (0, right, 0, bottom)).unfold(2, 4, 4).unfold(3, 4, 4).amax((-1, -2))
    y = F.interpolate(y, scale_factor=4)
    if bottom > 0 or right > 0:
        y = y[:, :, :height, :width]
    return y + x


def resized(x: Tensor) -> Tensor:
    """As MobileViT makes images divisible."""
    height = math.ceil(x.shape[2] / 4) * 4
    return F.interpolate(x, (height, x.shape[3])) * 2 if height != x.shape[2] else x * 1


def converted(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(int(x.shape[2] / 2), 4))


def a_square(x: Tensor) -> Tensor:
    side = int(x.flatten(2).shape[2] ** 0.5)
    return x.flatten(2).view(x.shape[0], -1, side, side)


def a_number(x: Tensor) -> Tensor:
    return x * (1 / x.shape[3])


def a_root(x: Tensor) -> Tensor:
    return x / math.sqrt(x.shape[3])


def a_bit(x: Tensor) -> Tensor:
    return x * 2 if x.shape[3] & 1 else x * 3


def a_loop(x: Tensor) -> Tensor:
    """What `range` is given nothing can see: another size is tried."""
    total = torch.zeros_like(x[:, :, 0])
    for row in range(x.shape[2]):
        total = total + x[:, :, row]
    return x + total[:, :, None]


def half_of_it(x: Tensor) -> Tensor:
    return x[:, :, : int(0.5 * x.shape[2])]


def truth(x: Tensor) -> Tensor:
    return x * 2 if x.shape[3] - 8 else x * 3


def the_smaller(x: Tensor) -> Tensor:
    return x[:, :, : min(x.shape[2], 9)]


@pytest.mark.parametrize(
    ("function", "same", "other"),
    [
        (padded, (12, 16), (9, 8)),
        (resized, (12, 9), (9, 8)),
        (converted, (9, 12), (12, 8)),
        (a_square, (8, 8), (9, 9)),
        (a_number, (11, 8), (8, 16)),
        (a_root, (11, 8), (8, 16)),
        (a_bit, (11, 8), (8, 9)),
        (truth, (11, 8), (8, 9)),
        (a_loop, (8, 8), (12, 8)),
        (half_of_it, (8, 8), (12, 8)),
        (the_smaller, (7, 5), (11, 8)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_sizes_are_right_or_refused(function: Any, same: tuple[int, int], other: tuple[int, int], tmp_path: Path) -> None:
    model = Net(function).eval()
    network = capture(model, image(8, 8), strict=True)
    network.save_to_json(tmp_path / "net.json")
    assert requirements(network)
    for one in (network, amc.load(tmp_path / "net.json")):
        assert torch.equal(one(image(*same, batch=3)), model(image(*same, batch=3)))
        model(image(*other))  # the original takes it
        with pytest.raises(
            SizeError, match=r"recorded for inputs with .* at test_capture_sizes.py:\d+; here these are"
        ) as caught:
            one(image(*other))
        assert caught.value.hint
    assert_masked_equals_shrunk(network, image(8, 8))


def test_the_doctor_says_so() -> None:
    found = {one.name: one.problem for one in diagnose(capture(Net(resized), image(9, 8))).trials}
    assert found == {"batch": None, "image size": None}  # 9 + 32 is no multiple of 4 either
    found = {one.name: one.problem for one in diagnose(capture(Net(a_number), image(8, 8))).trials}
    assert (found["image size"] or "").startswith("the network was recorded for inputs with `first.size3` == 8 at test_")


# --- without effect ---


def padded_where_needed(x: Tensor) -> Tensor:
    """As TensorFlow pads: the record, which pads by the numbers of each image, is right on both ways."""
    pads = [(2 - x.shape[3] % 2) % 2, (2 - x.shape[2] % 2) % 2]
    if any(pads):
        x = F.pad(x, (0, pads[0], 0, pads[1]))
    return F.max_pool2d(x, 2)


def test_branches_that_change_nothing_are_no_requirement() -> None:
    model = Net(padded_where_needed).eval()
    network = capture(model, image(7, 7), strict=True)
    assert not requirements(network)
    for size in ((8, 8), (9, 8), (8, 9), (9, 11)):
        assert torch.equal(network(image(*size)), model(image(*size)))


def test_branches_on_the_batch() -> None:
    def harmless(x: Tensor) -> Tensor:
        return x.reshape(x.shape) if x.shape[0] == 1 else x.reshape_as(x)

    network = capture(Net(harmless), image(8, 8, batch=1))
    assert not requirements(network) and network.graph.inputs[0].shape[0] is None
    with pytest.raises(CaptureError, match=r"for another batch size: it was recorded with `first.size0` == 1 at test_capture"):
        capture(Net(lambda x: x * 2 if x.shape[0] == 1 else x * 3), image(8, 8, batch=1))


def test_trying_another_size_leaves_the_users_model_as_it_was() -> None:
    class Remembers(nn.Module):
        """Keeps a grid for the last image size."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.register_buffer("grid", torch.zeros(0), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            if self.grid.shape != x.shape[2:]:
                self.grid = torch.arange(float(x.shape[2] * x.shape[3])).view(x.shape[2:])
                self.made_for = [int(size) for size in x.shape[2:]]
            return self.conv(x) + self.grid

    model = Remembers().eval()
    network = capture(model, image(8, 6), strict=True)
    assert model.grid.shape == (8, 6) and model.made_for == [8, 6]
    assert torch.equal(network(image(8, 6)), model(image(8, 6)))


def test_questions_about_channels_do_not_outlive_them() -> None:
    """A network asserts how many channels it has; pruned, it has others, and is right for every image."""

    def asserting(x: Tensor) -> Tensor:
        assert x.shape[1] == 8 and x.shape[2] > 4
        return x * (x.shape[1] // 2) ** -0.5

    network = capture(Net(asserting), image(8, 8), strict=True)
    assert len(requirements(network)) == 3
    channels = channel_map(network)
    smaller = channels.shrink(channels.group("first").ids[:3])
    assert requirements(smaller) == [one for one in requirements(network) if "size2" in one]
    assert_masked_equals_shrunk(network, image(8, 8))


def test_questions_of_torch_are_none_of_the_network() -> None:
    """What functions of torch ask in Python about sizes that they are given is the same for all sizes."""
    network = capture(Net(lambda x: F.interpolate(F.pad(x, (x.shape[2] % 3, 0)), size=x.shape[2:])), image(8, 8))
    assert not requirements(network)


def test_requirements_can_be_traced_exported_and_read(tmp_path: Path) -> None:
    network = capture(Net(resized), image(8, 8), strict=True)
    traced = torch.fx.symbolic_trace(network)
    assert torch.equal(traced(image(12, 8)), network(image(12, 8)))
    with pytest.raises(SizeError):
        traced(image(9, 8))
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(network, (image(8, 8),), dynamic_shapes=(({0: batch},),)).module()
    assert torch.equal(exported(image(8, 8, batch=5)), network(image(8, 8, batch=5)))
    network.save_to_json(tmp_path / "net.json")
    nodes = json.loads((tmp_path / "net.json").read_text())["document"]["nodes"]
    (node,) = (one for one in nodes if one["op"] == "vn.require")
    assert node["params"]["fn"] == "eq" and node["params"]["where"].startswith("test_capture_sizes.py:")


class ReducedAttention(nn.Module):
    """As in Twins and PVT: keys and values of fewer tokens; the width of a head is computed from the width of the input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm, self.q, self.kv = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 16)
        self.pool, self.out = nn.AvgPool1d(2), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        n, tokens, channels = x.shape
        q = self.q(x).reshape(n, tokens, 2, channels // 2).permute(0, 2, 1, 3)
        k, v = self.kv(self.pool(x.transpose(1, 2)).transpose(1, 2)).reshape(n, -1, 2, 2, channels // 2).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, -1))


def test_widths_computed_from_a_width_that_stays() -> None:
    """The norm pins the input's width; the heads' can go, although the network computes one from the other."""
    network = capture(ReducedAttention(), torch.randn(2, 6, 8), strict=True)
    channels = channel_map(network)
    (group,) = (group for group in channels.groups if not group.pinned)
    assert group.producers == ("q", "kv") and len(group) == 4  # places in a head, the same in all heads
    smaller = assert_masked_equals_shrunk(network, torch.randn(2, 6, 8), removed=group.ids[1:2])
    assert smaller.layer("q").get_parameter("weight").shape == (6, 8)
    assert_rebuilds(smaller, torch.randn(3, 10, 8, dtype=torch.float64))
