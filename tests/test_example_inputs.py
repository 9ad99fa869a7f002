"""Example inputs: as text on the command line and in recipes, and what a profile says of inputs that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.core.errors import GraphError, SettingsError
from amc_plugins.core.example_inputs import ExampleInput, make_inputs, parse_input
from amc_plugins.core.opening import open_network
from amc_plugins.core.recipe import NetworkSection
from tests.networks import SmallResNet, TwoInputs
from tests.work_files import Command

MODEL = """
import torch
from torch import nn


class Text(nn.Module):
    def __init__(self, words=100):
        super().__init__()
        self.words, self.image, self.last = nn.Embedding(words, 6), nn.Conv2d(3, 6, 1), nn.Linear(6, 2)

    def forward(self, ids, mask, image):
        x = self.words(ids).masked_fill(mask.unsqueeze(-1), 0.0).mean(1)
        return self.last(x + self.image(image).mean((2, 3)))


class Dictionary(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, given):
        return self.conv(given["image"]) * given["scale"]


def network():
    return Text()


def dictionary():
    return Dictionary()


def inputs():
    return torch.randint(0, 100, (2, 7)), torch.rand(2, 7) > 0.5


def image():
    return torch.rand(2, 3, 4, 4)


def given():
    return {"image": torch.rand(2, 3, 4, 4), "scale": torch.rand(2, 1, 1, 1)}
"""
TEXTS = ("2x7:i64:100", "2x7:bool", "2x3x4x4")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "text.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1x3x8x8", ExampleInput((1, 3, 8, 8))),
        ("1,3,8,8", ExampleInput((1, 3, 8, 8))),
        ("2×16:f16", ExampleInput((2, 16), "f16")),
        ("2x16:i64", ExampleInput((2, 16), "i64", 2)),
        ("2x16:u8:256", ExampleInput((2, 16), "u8", 256)),
        ("data.py:tokens", "data.py:tokens"),
        ("some.where/data.py:tokens", "some.where/data.py:tokens"),
        ("package.module:tokens", "package.module:tokens"),
    ],
)
def test_texts(text: str, expected: Any) -> None:
    assert parse_input(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1x3xeight", "`1x3xeight` is no shape"),
        ("", "`` is no shape"),
        ("1x0", "every size must be at least 1"),
        ("1x3:int", "`int` is no type of a tensor; there are f32, "),
        ("1x3:f32:4", "and f32 holds none"),
        ("1x3:u8:257", "1 to 256 for u8"),
        ("1x3:i64:0", "1 to 9,223,372,036,854,775,808 for i64"),
        ("1x3:i64:4:4", "1 to 9,"),
        ("nowhere", "`nowhere` is no shape"),
    ],
)
def test_texts_that_are_none(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_input(text)


def test_what_is_made_of_them(written: Path) -> None:
    ids, mask, image = make_inputs([parse_input(one) for one in TEXTS], seed=3)
    assert ids.dtype == torch.int64 and 0 <= ids.min() and 2 < ids.max() < 100
    assert mask.dtype == torch.bool and mask.any() and not mask.all()
    assert image.dtype == torch.float32 and 0 <= image.min() and image.max() < 1 and image.std() > 0.2
    again = make_inputs([parse_input(one) for one in TEXTS], seed=3)
    assert all(torch.equal(a, b) for a, b in zip(again, (ids, mask, image), strict=True))
    assert make_inputs([ExampleInput((5,), "u8", 1)])[0].tolist() == [0] * 5
    mixed = make_inputs(["text.py:inputs", ExampleInput((2, 3, 4, 4), "bf16"), "text.py:image"], base=written)
    assert [one.dtype for one in mixed] == [torch.int64, torch.bool, torch.bfloat16, torch.float32]


def test_networks_of_tokens_and_of_several_inputs_on_the_command_line(written: Path, amc_: Command) -> None:
    options = [part for text in TEXTS for part in ("--input", text)]
    code, out, err = amc_("capture", "text.py:network", *options, "--json", "-o", "net.pkl")
    assert code == 0, err
    assert [(one["name"], one["dtype"], one["shape"][1:]) for one in json.loads(out)["inputs"]] == [
        ("ids", "i64", [7]), ("mask", "bool", [7]), ("image", "f32", [3, 4, 4])
    ]  # fmt: skip
    code, out, err = amc_("profile", "net.pkl", "-i", "3x9", "-i", "3x9", "-i", "3x3x8x8", "--json")  # types: the recorded ones
    assert code == 0, err
    assert json.loads(out)["total_macs"] == 3 * (3 * 6 * 64 + 6 * 2)
    code, _, err = amc_("profile", "net.pkl", "-i", "3x9:f32", "-i", "3x9", "-i", "3x3x8x8")
    assert code == 2 and "the input `ids` holds torch.int64, given was torch.float32" in err
    code, out, err = amc_("profile", "text.py:network", "-i", "text.py:inputs", "-i", "2x3x4x4", "--json")
    assert code == 0 and json.loads(out)["total_macs"] == 3 * 6 * 16 + 6 * 2, err
    code, out, err = amc_("profile", "text.py:dictionary", "-i", "text.py:given", "--json")
    assert code == 0 and json.loads(out)["total_macs"] == 3 * 4 * 16, err
    code, _, err = amc_("profile", "text.py:network", "-i", "2x7:int")
    assert code == 2 and err.startswith("error: `--input 2x7:int`: `int` is no type of a tensor")


@pytest.mark.parametrize("given", [[*TEXTS[:2], [2, 3, 4, 4]], ["text.py:inputs", "2x3x4x4"]])
def test_inputs_of_recipes(written: Path, given: list[Any]) -> None:
    section = NetworkSection(source="text.py:network", input=given)
    network = open_network(section, written)
    assert [spec.dtype for spec in network.graph.inputs] == ["i64", "bool", "f32"]
    assert NetworkSection(source="a:b", input=[1, 3, 8, 8]).inputs == [ExampleInput((1, 3, 8, 8))]
    assert NetworkSection(source="a:b", input=[[1, 3], [1, 4]]).inputs == [ExampleInput((1, 3)), ExampleInput((1, 4))]
    assert NetworkSection(source="a:b", input="1x3:f64").inputs == [ExampleInput((1, 3), "f64")]


# --- inputs that do not fit ---


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((torch.rand(1, 4, 8, 8),), r"does not run on inputs of 1x4x8x8: `stem` \(vn\.conv2d\) at networks\.py:\d+: "),
        ((torch.rand(3, 8, 8),), r"does not run on inputs of 3x8x8: `layer1\.0\.bn1` \(vn\.batchnorm2d\) at networks\.py:"),
        ((torch.rand(1, 3, 8),), r"does not run on inputs of 1x3x8: `stem` "),
        ((), ""),
        ((torch.rand(5, 3, 16, 12),), ""),
        ((torch.rand(5, 3, 16, 12).half(),), ""),
        ((torch.zeros(1, 3, 8, 8, dtype=torch.long),), r"the input `x` holds torch\.float32, given was torch\.int64"),
        ((torch.rand(1, 3, 8, 8), 1), r"takes 1 input \(a tensor\), given were 2 inputs \(a tensor, a int\)"),
        (([torch.rand(1, 3, 8, 8)],), r"takes 1 input \(a tensor\), given were 1 input \(a list\)"),
    ],
)
def test_profiles_of_inputs_that_the_network_does_not_take_are_refused(inputs: tuple[Any, ...], message: str) -> None:
    network = amc.capture(SmallResNet().eval(), torch.rand(2, 3, 8, 8))
    if not message:
        assert amc.profile(network, *inputs).total_macs > 0
        return
    with pytest.raises(GraphError, match=message) as caught:
        amc.profile(network, *inputs)
    assert caught.value.hint == "it was captured on `x`: Nx3x8x8 f32"


def test_figures_for_other_sizes_are_those_of_a_network_captured_on_them() -> None:
    network = amc.capture(SmallResNet().eval(), torch.rand(2, 3, 8, 8))
    x = torch.rand(3, 3, 20, 12)
    again = amc.profile(amc.capture(SmallResNet().eval(), x), x)
    assert [row.macs for row in amc.profile(network, x).rows] == [row.macs for row in again.rows]


def test_a_layer_that_only_follows_channels_refuses_a_wrong_count_as_well() -> None:
    network = amc.capture(nn.Sequential(nn.BatchNorm2d(3), nn.PReLU(3)).eval(), torch.rand(2, 3, 8, 8))
    with pytest.raises(GraphError, match=r"inputs of 2x4x8x8: `0` \(vn\.batchnorm2d\)"):
        amc.profile(network, torch.rand(2, 4, 8, 8))


def test_a_fixed_batch_is_fixed_in_profiles_too() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).view(2, 4 * 64)

    network = amc.capture(Fixed(), torch.rand(2, 3, 8, 8))
    assert amc.profile(network, torch.rand(2, 3, 8, 8)).total_macs == 2 * 3 * 4 * 64
    with pytest.raises(GraphError, match=r"inputs of 3x3x8x8: `reshape_0` \(vn\.reshape\)"):
        amc.profile(network, torch.rand(3, 3, 8, 8))


def test_two_inputs_must_fit_each_other() -> None:
    network = amc.capture(TwoInputs().eval(), torch.rand(2, 3, 4, 4), torch.rand(2, 2, 4, 4))
    with pytest.raises(GraphError, match=r"inputs of 2x3x5x5, 2x2x4x4: `add_0`"):
        amc.profile(network, torch.rand(2, 3, 5, 5), torch.rand(2, 2, 4, 4))


def test_an_op_that_the_meta_device_cannot_run_is_run() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x)
            return y + torch.nonzero(y.abs() + 1).sum() * 0.0

    network = amc.capture(Odd().eval(), torch.rand(2, 3, 4, 4))
    assert [network.layer(node.layer).target for node in network.graph.nodes if node.op == "opaque"] == ["torch.nonzero"]
    assert amc.profile(network, torch.rand(1, 3, 6, 6)).row("conv").macs == 12 * 36
    with pytest.raises(GraphError, match=r"inputs of 1x5x6x6: `conv`"):
        amc.profile(network, torch.rand(1, 5, 6, 6))
