"""`amc doctor NETWORK`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import amc_plugins as amc
from amc_plugins.cli.app import run
from amc_plugins.cli.doctor import _pruning
from amc_plugins.core.diagnosis import LayerDiagnosis, diagnose

NETWORK = """
import torch
from torch import nn

class Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return torch.special.i0e(x) * self.scale[:, None, None]

class Net(nn.Module):
    def __init__(self, odd):
        super().__init__()
        self.odd = odd
        self.stem, self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.depthwise, self.scale = nn.Conv2d(8, 8, 3, padding=1, groups=8), Scale(8)
        self.classes = nn.Linear(8 * 8 * 8, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.left(x) + self.right(x)
        x = self.depthwise(x)
        if self.odd:
            x = torch.special.i1e(self.scale(x)).cumsum(1).logcumsumexp(1)
        return self.classes(nn.functional.max_pool2d(x, 2).flatten(1))

def plain():
    return Net(False)

def odd():
    return Net(True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_layers_partners_and_trials(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "net.py:plain", "--input", "1x3x16x16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    layers = {one["name"]: one for one in found["layers"]}
    assert found["healthy"] and not found["opaque"] and list(layers) == ["stem", "left", "right", "depthwise", "classes"]
    assert layers["stem"]["prunable"] == 0 and layers["stem"]["pinned"] == ["an input of the network"]
    assert (layers["left"]["prunable"], layers["left"]["partners"]) == (7, ["right"])
    assert [layers["classes"][key] for key in ("prunable", "inputs", "pinned")] == [7 * 64, 8 * 64, []]  # flattened 8 x 8 maps
    assert layers["depthwise"]["decomposition"] == "its channels are in groups of their own"
    assert layers["left"]["decomposition"] is None and layers["left"]["source"] == "net.py:23"
    batch, size = found["trials"]
    assert (batch["name"], batch["inputs"], batch["problem"]) == ("batch", [[3, 3, 16, 16]], None)
    assert size["inputs"] == [[2, 3, 48, 48]] and size["problem"].startswith("`classes` (vn.linear) at net.py:")


def test_calls_without_a_handler_and_what_would_serve(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "net.py:odd", "--input", "1x3x16x16"]) == 1
    out = capsys.readouterr().out
    assert 'transparent("torch.special.i1e")' in out and 'transparent("torch.special.i0e")' in out
    assert "logcumsumexp" in out and "barrier(" in out  # each channel depends on those before it
    assert "torch.special.i1e at net.py:26" in out
    assert "stay: touches `torch.Tensor.logcumsumexp` at net.py:26: there is no handler for it" in out


def test_a_call_with_weights_needs_a_whole_handler() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.pair = nn.Linear(6, 8), nn.Bilinear(8, 8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.pair(y, y)

    found = diagnose(amc.capture(Pair(), torch.zeros(2, 6)))
    (call,) = found.opaque
    assert call.handler.startswith("class BilinearHandler(LayerHandler)") and not found.healthy
    assert 'amc.register(BilinearHandler, captures="torch.nn.functional.bilinear")' in call.handler


def test_a_batch_that_is_built_into_the_network_is_no_health() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)
            self.register_buffer("table", torch.randn(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + self.table

    found = diagnose(amc.capture(Fixed(), torch.zeros(2, 6)))
    assert not found.opaque and not found.healthy
    assert found.trials[0].inputs == ((2, 6),) and "for this batch only" in (found.trials[0].problem or "")


def test_a_file_is_looked_at_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["capture", "net.py:plain", "--input", "1x3x16x16", "-o", "net.vnmodel"]) == 0
    assert run(["doctor", "net.vnmodel"]) == 0
    out = capsys.readouterr().out
    assert "7 of 8 can go with those of right" in out and "batch 3x3x16x16: works" in out


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out, self.norm = *(nn.Linear(6, 6) for _ in range(4)), nn.LayerNorm(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.norm(x) + 1.0)
        return self.out((self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x))


def test_products_follow_and_reasons_are_said_once() -> None:
    found = diagnose(amc.capture(Attention(), torch.rand(2, 5, 6)))
    rows = {one.name: _pruning(one) for one in found.layers}
    assert rows["matmul_0"] == rows["matmul_1"] == "follow the layers that make them"
    assert {one.decomposition for one in found.layers if one.op == "vn.matmul"} == {"it has no weights"}
    assert rows["out"] == "5 of 6 can go"
    spoilt = LayerDiagnosis("x", "vn.linear", None, 1, None, (), ("a norm at a.py:1", "a norm at a.py:2", "an input"), 4, 0)
    assert _pruning(spoilt) == "stay: a norm at a.py:1, a.py:2, an input"


def test_channels_of_pixels_are_counted_as_the_layer_reads_them() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelUnshuffle(2), nn.Conv2d(32, 4, 1))
    last = diagnose(amc.capture(model, torch.rand(2, 3, 10, 10))).layers[-1]
    assert (last.prunable, last.inputs, last.partners) == (28, 32, ())


CHAIN = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
"""


def test_a_chain_of_torch_has_no_lines_of_its_user(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "chain.py").write_text(CHAIN)
    assert run(["doctor", "chain.py:net", "--input", "1x3x16x16", "--json"]) == 0
    assert [one["source"] for one in json.loads(capsys.readouterr().out)["layers"]] == [None, None]


DECIDES = """
import torch
from torch import nn

class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        y = self.layer(x)
        return y.relu() if x.abs().sum() > 0 else y
"""


def test_a_branch_on_the_data_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where both of the inputs that capture runs take the same way."""
    (folder / "decides.py").write_text(DECIDES)
    assert run(["capture", "decides.py:Decides", "--input", "2x6", "-o", "decides.json"]) == 0
    assert "numbers are read from the data at decides.py:12 (`torch.Tensor.__bool__`)" in capsys.readouterr().err
    assert run(["doctor", "decides.json"]) == 0
    assert "numbers are read from the data at decides.py:12" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--set", "-s", "--network-set"])
def test_keywords_of_the_factory(folder: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As where nothing else is set: `amc capture`, `amc profile`, `amc bench`."""
    assert run(["profile", "net.py:Net", option, "odd=false", "--input", "1x3x16x16"]) == 0
    assert "stem" in capsys.readouterr().out
    assert run(["doctor", "net.py:Net", option, "odd=false", "--input", "1x3x16x16"]) == 0
