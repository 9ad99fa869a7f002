"""Real networks through the exporter: the same bits after a reload, also where the user's classes do not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_venus_export import VnModelError, open_vnmodel
from amc_venus_export._exporter import VnModelExporter
from amc_venus_export.plugin import VnModelSettings
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.exporting import CheckFailed
from amc_plugins.graph import describe, make_layer, replace


def exported(network: Any, path: Path, **options: Any) -> VnModelExporter:
    exporter = VnModelExporter(VnModelSettings(**options))
    exporter.export(network, path)
    return exporter


def test_reload_is_equal_bit_for_bit_and_stays_symbolic(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    network.layer("two").weight = network.layer("one").weight
    exporter = exported(network, tmp_path / "a.vnmodel")
    exporter.verify(tmp_path / "a.vnmodel", network, inputs)
    loaded = exporter.load(tmp_path / "a.vnmodel")
    exporter.verify(tmp_path / "a.vnmodel", network, [torch.rand(1, 3, 8, 8)])
    assert describe(loaded).to_json() == describe(network).to_json()
    assert any(node.symbols for node in loaded.graph.nodes)
    assert loaded.layer("one").weight is loaded.layer("two").weight


def test_verify_notices_another_network(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    exporter = exported(network, tmp_path / "a.vnmodel")
    with torch.no_grad():
        network.layer("head").bias[0] += 1e-3
    with pytest.raises(CheckFailed, match="differs, by at most"):
        exporter.verify(tmp_path / "a.vnmodel", network, inputs)


READER = """
import sys, torch, amc_plugins as amc
case = torch.load(sys.argv[2], weights_only=True)
out = amc.load(sys.argv[1])(case["x"])
assert not [name for name in sys.modules if "conftest" in name]
assert torch.equal(out["scores"], case["scores"])
assert torch.equal(out["maps"][0], case["big"]) and torch.equal(out["maps"][1], case["anchors"])
assert isinstance(out["maps"], tuple) and out["maps"][1].dtype == torch.int16
"""


def test_a_process_without_the_users_class(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    amc.export(network, "vnmodel", tmp_path / "a.vnmodel")
    with torch.no_grad():
        out = network(*inputs)
    case = {"x": inputs[0], "scores": out["scores"], "big": out["maps"][0], "anchors": out["maps"][1]}
    torch.save(case, tmp_path / "case.pt")
    command = [sys.executable, "-W", "error", "-c", READER, str(tmp_path / "a.vnmodel"), str(tmp_path / "case.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(network: Any, inputs: list[Tensor], tmp_path: Path, dtype: torch.dtype) -> None:
    cast = network.clone().to(dtype)
    exporter = exported(cast, tmp_path / "a.vnmodel")
    loaded = exporter.load(tmp_path / "a.vnmodel")
    assert loaded.layer("stem").weight.dtype == dtype
    exporter.verify(tmp_path / "a.vnmodel", cast, [inputs[0].to(dtype)])


def test_after_a_layer_was_replaced(network: Any, inputs: list[Tensor], tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    first = make_layer(
        "vn.linear", {"in_features": 32, "out_features": 3, "bias": False}, {"weight": torch.rand(3, 32, generator=generator)}
    )
    second = make_layer(
        "vn.linear", {"in_features": 3, "out_features": 5, "bias": False}, {"weight": torch.rand(5, 3, generator=generator)}
    )
    replace(network, "head", [("vn.linear", first), ("vn.linear", second)])
    exporter = exported(network, tmp_path / "a.vnmodel")
    exporter.verify(tmp_path / "a.vnmodel", network, inputs)
    nodes = open_vnmodel(tmp_path / "a.vnmodel").document.nodes
    assert [node.layer for node in nodes if node.origin == "head"] == ["head.0", "head.1"]


def test_settings_and_metadata(network: Any, tmp_path: Path) -> None:
    exported(network, tmp_path / "a.vnmodel", metadata={"trained on": "digits"}, model_id=3)
    model = open_vnmodel(tmp_path / "a.vnmodel")
    assert (model.model_id, model.model_base_size_hw) == (3, (8, 8))
    assert model.document.metadata["trained on"] == "digits" and "trained on" not in network.graph.metadata
    network.save_to_vnmodel(pkl=tmp_path / "b.vnmodel", model_base_size_hw=(64, 48), model_id=5)
    model = open_vnmodel(tmp_path / "b.vnmodel")
    assert (model.model_id, model.model_base_size_hw) == (5, (64, 48))
    for bad in ({"model_id": 2**32}, {"model_base_size_hw": (0, 1)}, {"align": 32}, {"colour": 1}):
        with pytest.raises(amc.AmcError):
            amc.export(network, "vnmodel", tmp_path / "c.vnmodel", **bad)
    assert not (tmp_path / "c.vnmodel").exists()


class Rolls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.logcumsumexp(self.conv(x), 1)


def test_opaque_nodes_are_refused_by_call_and_line(tmp_path: Path) -> None:
    network = amc.capture(Rolls(), torch.rand(1, 1, 4, 4))
    with pytest.raises(amc.AmcError, match=r"torch\.logcumsumexp.*test_venus_networks\.py:\d+") as caught:
        exported(network, tmp_path / "a.vnmodel")
    assert caught.value.hint and not (tmp_path / "a.vnmodel").exists()


def test_a_missing_handler_names_the_op(network: Any, tmp_path: Path) -> None:
    exported(network, tmp_path / "a.vnmodel")
    model = open_vnmodel(tmp_path / "a.vnmodel")
    for node in model.document.nodes:
        node.op = node.op.replace("vn.linear", "com.acme.linear")
    model.save(tmp_path / "b.vnmodel")
    with pytest.raises(VnModelError, match=r"com\.acme\.linear") as caught:
        amc.load(tmp_path / "b.vnmodel")
    assert caught.value.code == "OP_UNKNOWN"
    assert open_vnmodel(tmp_path / "b.vnmodel", generic=True).document.nodes


def test_overhead_is_below_half_a_percent_for_a_megabyte(tmp_path: Path) -> None:
    network = amc.capture(nn.Sequential(nn.Conv2d(64, 512, 3), nn.BatchNorm2d(512)).eval(), torch.rand(1, 64, 8, 8))
    exported(network, tmp_path / "a.vnmodel")
    raw = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    assert (tmp_path / "a.vnmodel").stat().st_size < raw * 1.005


def test_the_plugin_says_whose_format_it_is() -> None:
    from amc_venus_export import plugin

    (spec,) = plugin.amc_exporters()
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for text in (spec.summary, VnModelSettings.__doc__ or "", " ".join(readme.split())):
        assert (
            "Huya" in text
            and "not" in text
            and "own open format" in text.replace("an open format of this project", "own open format")
        )
