"""Real networks through both exporters: the same bits after a reload, also where the user's classes do not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_archive_export._json import JsonExporter
from amc_archive_export._pkl import PklExporter
from amc_archive_export.plugin import JsonSettings, PklSettings
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.exporting import CheckFailed
from amc_plugins.graph import describe

EXPORTERS: dict[str, Any] = {"pkl": PklExporter(PklSettings()), "json": JsonExporter(JsonSettings())}
both = pytest.mark.parametrize("kind", ["pkl", "json"])


@both
def test_reload_is_equal_bit_for_bit_and_stays_symbolic(kind: str, network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    path, exporter = tmp_path / f"a.{kind}", EXPORTERS[kind]
    exporter.export(network, path)
    exporter.verify(path, network, inputs)
    loaded = exporter.load(path)
    exporter.verify(path, network, [torch.rand(1, 3, 8, 8)])  # another batch than the recorded one
    assert describe(loaded).to_json() == describe(network).to_json()
    assert any(node.symbols for node in loaded.graph.nodes)
    assert loaded.layer("one").weight is loaded.layer("two").weight
    first = path.read_bytes()
    exporter.export(loaded, path)
    assert path.read_bytes() == first


@both
def test_verify_notices_another_network(kind: str, network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    path, exporter = tmp_path / f"a.{kind}", EXPORTERS[kind]
    exporter.export(network, path)
    with torch.no_grad():
        network.layer("head").bias[0] += 1e-3
    with pytest.raises(CheckFailed, match="differs, by at most"):
        exporter.verify(path, network, inputs)


READER = """
import sys, torch, amc_plugins as amc
case = torch.load(sys.argv[2], weights_only=True)
out = amc.load(sys.argv[1])(case["x"])
assert not [name for name in sys.modules if "conftest" in name]
assert torch.equal(out["scores"], case["scores"])
assert torch.equal(out["maps"][0], case["big"]) and torch.equal(out["maps"][1], case["anchors"])
assert isinstance(out["maps"], tuple) and out["maps"][1].dtype == torch.int16
"""


@both
def test_a_process_without_the_users_class(kind: str, network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    path = amc.export(network, kind, tmp_path / f"a.{kind}")
    with torch.no_grad():
        out = network(*inputs)
    case = {"x": inputs[0], "scores": out["scores"], "big": out["maps"][0], "anchors": out["maps"][1]}
    torch.save(case, tmp_path / "case.pt")
    command = [sys.executable, "-W", "error", "-c", READER, str(path), str(tmp_path / "case.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(kind: str, dtype: torch.dtype, network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    path, exporter, cast = tmp_path / f"a.{kind}", EXPORTERS[kind], network.clone().to(dtype)
    exporter.export(cast, path)
    assert exporter.load(path).layer("stem").weight.dtype == dtype
    exporter.verify(path, cast, [inputs[0].to(dtype)])


class Rolls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.logcumsumexp(self.conv(x), 1)


@both
def test_opaque_nodes_are_refused_by_call_and_line(kind: str, tmp_path: Path) -> None:
    network = amc.capture(Rolls(), torch.rand(1, 1, 4, 4))
    with pytest.raises(amc.AmcError, match=r"torch\.logcumsumexp.*test_archive_networks\.py:\d+") as caught:
        EXPORTERS[kind].export(network, tmp_path / f"a.{kind}")
    assert caught.value.hint and not list(tmp_path.iterdir())


def test_the_source_systems_methods(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    network.save(pkl=tmp_path / "a.pkl")
    network.save_to_json(file=tmp_path / "a.json")
    for name in ("a.pkl", "a.json"):
        assert torch.equal(amc.load(tmp_path / name)(*inputs)["scores"], network(*inputs)["scores"])


def test_a_trained_network_is_saved_from_train_mode_and_loads_in_eval_mode(network: Any, tmp_path: Path) -> None:
    network.train()
    EXPORTERS["pkl"].export(network, tmp_path / "a.pkl")
    EXPORTERS["pkl"].verify(tmp_path / "a.pkl", network, [torch.rand(2, 3, 8, 8)])
    assert network.training and network.layer("bn").training
    assert not any(module.training for module in EXPORTERS["pkl"].load(tmp_path / "a.pkl").modules())


def test_json_without_tensors_is_the_graph_alone(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    exporter = JsonExporter(JsonSettings(tensors="none"))
    exporter.export(network, tmp_path / "a.json")
    exporter.verify(tmp_path / "a.json", network, inputs)
    assert '"data"' not in (tmp_path / "a.json").read_text()
    with pytest.raises(amc.AmcError, match="without its tensors") as caught:
        exporter.load(tmp_path / "a.json")
    assert "base64" in str(caught.value.hint)
    assert exporter.document(tmp_path / "a.json").to_json() == describe(network).to_json()
    network.graph.metadata["changed"] = "yes"
    with pytest.raises(CheckFailed):
        exporter.verify(tmp_path / "a.json", network, inputs)
