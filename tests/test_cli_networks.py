"""`amc capture|profile|inspect|export`: what they print and write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import amc_plugins as amc
from amc_plugins.core.factories import call_factory, load_weights
from amc_plugins.demo.network import SmallResNet
from tests.work_files import Command

SHAPE = ("--input", "1x1x8x8")


def captured(here: Path) -> amc.ReconstructedNetwork:
    model = call_factory("model.py:net", base=here)
    load_weights(model, here / "net.pt")
    return amc.capture(model, torch.zeros(1, 1, 8, 8))


# --- capture ---


def test_capture_writes_what_the_model_computes(here: Path, amc_: Command) -> None:
    outputs = ("-o", "a.pkl", "-o", "a.json", "--output", "a.vnmodel")
    code, out, err = amc_("capture", "model.py:net", *SHAPE, "--weights", "net.pt", *outputs, "--draw", "a.svg")
    assert code == 0, err
    assert f"parameters  {sum(one.numel() for one in SmallResNet(4).parameters()):,}" in out
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = captured(here).eval()
    for name in ("a.pkl", "a.json", "a.vnmodel"):
        assert torch.equal(amc.load(here / name).eval()(x), network(x))
        assert f"wrote {name} (" in err
    assert (here / "a.svg").read_text().lstrip().startswith("<")


def test_capture_prints_one_document(here: Path, amc_: Command) -> None:
    code, out, err = amc_("capture", "model.py:net", *SHAPE, "--json", "--set", "width=2", "-o", "a.pkl")
    found = json.loads(out)
    assert code == 0 and err == "wrote a.pkl (" + err.split("(", 1)[1]
    assert found["schema"] == 1 and found["files"] == ["a.pkl"] and found["opaque"] == []
    assert found["inputs"] == [{"name": "x", "dtype": "f32", "shape": [None, 1, 8, 8]}]
    network = amc.load("a.pkl")
    assert found["macs"] == amc.profile(network).total_macs
    assert {one["op"]: one["calls"] for one in found["operations"]}["vn.conv2d"] == 15
    assert network.layer("conv1").out_channels == 2


def test_opaque_calls_are_named_and_nothing_is_written(here: Path, amc_: Command) -> None:
    code, out, err = amc_("capture", "model.py:odd", *SHAPE)
    assert code == 0 and "bessel_j0 at model.py:16" in out, out
    code, out, err = amc_("capture", "model.py:odd", *SHAPE, "-o", "odd.pkl")
    assert code == 2 and not (here / "odd.pkl").exists()
    assert "cannot write .pkl: no handler covers" in err and "model.py:1" in err and "\nhint: " in err
    code, _, err = amc_("capture", "model.py:odd", *SHAPE, "--strict")
    assert code == 2 and "bessel_j0" in err and "LayerHandler" in err


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (("model.py:net",), "its shape is not given", "--input 1x3x224x224"),
        (("model.py:net", "-i", "1x1x8xeight"), "`--input 1x1x8xeight` is no shape", "1x3x224x224"),
        (("model.py:net", "-i", "1x0x8"), "every size must be at least 1", None),
        (("model.py:nett", *SHAPE), "`model.py` has no `nett`; did you mean `net`", None),
        (("model.py", *SHAPE), "`model.py` is Python code: which factory in it?", "model.py:NAME"),
        (("nothing.pkl",), "there is no file", None),
        (("nothing.py:net", *SHAPE), "there is no file", None),
        (("nothing", *SHAPE), "`nothing` is no file and names no factory", "file.py:factory"),
        (("no_such_module:net", *SHAPE), "`no_such_module` cannot be imported: ModuleNotFoundError", None),
        (("model.py:table", *SHAPE), "`model.py:table` made a dict", None),
        (("model.py:net", *SHAPE, "--set", "depth=3"), "`model.py:net` failed: TypeError", None),
        (("model.py:net", *SHAPE, "--set", "width"), "`--network-set width` is not `KEY=VALUE`", None),
        (("model.py:net", *SHAPE, "-w", "none.pt"), "there is no checkpoint", None),
        (("model.py:net", *SHAPE, "--set", "width=3", "-w", "net.pt"), "does not fit Net", None),
        (("model.py:net", *SHAPE, "-o", "net.onnix"), "no installed exporter writes `.onnix`", "amc plugins list"),
        (("model.py:net", *SHAPE, "-o", "net"), "no installed exporter writes `net` files", None),
    ],
)
def test_capture_refuses_with_the_way_out(
    here: Path, amc_: Command, arguments: tuple[str, ...], words: str, hint: str | None
) -> None:
    code, out, err = amc_("capture", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and words in err, err
    assert "Traceback" not in err
    if hint is not None:
        assert hint in err.partition("\nhint: ")[2]


def test_the_folder_of_a_file_is_on_its_path(here: Path, amc_: Command) -> None:
    (here / "sub").mkdir()
    (here / "sub" / "part.py").write_text("WIDTH = 3\n")
    (here / "sub" / "outer.py").write_text("def net():\n    import part\n    import model\n    return model.net(part.WIDTH)\n")
    code, out, err = amc_("capture", "sub/outer.py:net", *SHAPE, "--json")
    assert code == 0, err
    assert json.loads(out)["macs"] > 0


# --- profile ---


def test_profile_counts_what_the_api_counts(here: Path, amc_: Command) -> None:
    counted = amc.profile(captured(here))
    code, out, err = amc_("profile", "net.pkl", "--json")
    found = json.loads(out)
    assert (code, err, found["schema"]) == (0, "", 1)
    assert found["total_macs"] == counted.total_macs and found["total_parameters"] == counted.total_parameters
    assert [row["macs"] for row in found["rows"]] == [row.macs for row in counted.rows]
    code, out, _ = amc_("profile", "net.pkl", "--input", "2x1x16x16")
    assert code == 0
    total = out.splitlines()[-1].split()
    larger = amc.profile(captured(here), torch.zeros(2, 1, 16, 16)).total_macs
    assert total == ["total", f"{larger:,}", f"{counted.total_parameters:,}"]


def test_profile_shows_before_and_after(here: Path, amc_: Command) -> None:
    network = captured(here)
    network.save(pkl="before.pkl")
    data = [torch.rand(256, 1, 8, 8, generator=torch.Generator().manual_seed(0))]
    result = amc.compress(network, "lowrank", calibration=data, ratios={"layer3.1.*": 0.5})
    result.network.save(pkl="after.pkl")
    code, out, err = amc_("profile", "before.pkl", "--compare", "after.pkl")
    assert code == 0, err
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    before, after = amc.profile(network).total_macs, amc.profile(result.network).total_macs
    assert lines["total"][:3] == [f"{before:,}", f"{after:,}", f"{1 - after / before:.1%}"]
    assert "×" in lines["layer3.1.conv1"] and "×" not in lines["layer3.0.conv1"]
    code, out, _ = amc_("profile", "before.pkl", "--compare", "after.pkl", "--json")
    found = json.loads(out)
    assert found["before"]["total_macs"] == before and found["after"]["total_macs"] == after
    changed = [line["name"] for line in found["layers"] if line["macs_after"] != line["macs_before"]]
    assert changed == ["layer3.1.conv1", "layer3.1.conv2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("net.pkl", "-i", "1x3x8x8"), "does not run on inputs of 1x3x8x8"),
        (("net.pkl", "-i", "1x1x8x8", "-i", "1x1x8x8"), "takes 1 input (a tensor), given were 2 inputs"),
        (("net.pkl", "-w", "net.pt"), "--weights: only for a network that a factory makes"),
        (("net.pkl", "--compare", "model.py:net"), "--compare takes a file"),
    ],
)
def test_profile_refuses(here: Path, amc_: Command, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = amc_("profile", *arguments)
    assert (code, out) == (2, "")
    assert words in err, err


# --- inspect, export ---


def test_inspect(here: Path, amc_: Command) -> None:
    captured(here).save_to_vnmodel("net.vnmodel", model_id=7)
    code, out, err = amc_("inspect", "net.vnmodel")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert f"bytes {(here / 'net.vnmodel').stat().st_size:,}" in lines
    assert "input x: f32 N x 1 x 8 x 8" in lines and "model id 7" in lines
    assert ["vn.conv2d", "1", "15"] in [line.split() for line in out.splitlines()]
    code, out, _ = amc_("inspect", "net.vnmodel", "--draw", "net.svg", "--json")
    assert json.loads(out)["parameters"] == amc.profile(captured(here)).total_parameters
    facts = json.loads(out)["facts"]
    assert facts["format"] == ".vnmodel 1.0" and facts["model_base_size_hw"] == [8, 8]
    assert facts["stored_bytes"]["f32"] == sum(one.nbytes for one in captured(here).parameters()) + sum(
        one.nbytes for name, one in captured(here).named_buffers() if "running" in name
    )
    assert (here / "net.svg").read_text().startswith("<svg") and json.loads(out)["files"] == ["net.svg"]
    captured(here).save_to_json("net.json")
    code, out, _ = amc_("inspect", "net.json", "--json")
    assert code == 0 and json.loads(out)["facts"] == {}


def test_inspect_shows_what_cannot_be_loaded_here(here: Path, amc_: Command) -> None:
    captured(here).save_to_json("net.json")
    text = (here / "net.json").read_text(encoding="utf-8")
    (here / "other.json").write_text(text.replace('"vn.relu"', '"com.acme.swish"'), encoding="utf-8")
    code, out, err = amc_("inspect", "other.json")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and ["com.acme.swish", "1", str(text.count('"vn.relu"'))] in rows and ["vn.conv2d", "1", "15"] in rows
    assert "it cannot be loaded here" in err and "com.acme.swish" in err and "hint: install" in err
    assert not any(row and row[0] in ("MACs", "parameters") for row in rows)
    code, out, _ = amc_("inspect", "other.json", "--json")
    found = json.loads(out)
    assert "com.acme.swish" in found["problem"] and "macs" not in found and found["nodes"] == len(captured(here).graph.nodes)
    code, out, err = amc_("inspect", "other.json", "--draw", "other.svg")
    assert (code, out) == (2, "") and "com.acme.swish" in err and not (here / "other.svg").exists()
    (here / "cut.json").write_text(text[:-40], encoding="utf-8")
    code, out, err = amc_("inspect", "cut.json")
    assert (code, out) == (2, "") and "not acceptable JSON" in err


def test_export_converts_between_forms(here: Path, amc_: Command) -> None:
    code, out, err = amc_("export", "net.pkl", "vnmodel", "-o", "net", "--set", "model_id=3", "-s", "model_base_size_hw=[8, 8]")
    assert (code, err) == (0, "")
    assert out.startswith("net.vnmodel  ") and "read back and checked" in out
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(amc.load("net.vnmodel").eval()(x), captured(here).eval()(x))
    code, out, _ = amc_("export", "net.vnmodel", "json", "-o", "net.json", "--json", "--no-verify")
    assert json.loads(out) == {
        "schema": 1,
        "exporter": "json",
        "file": "net.json",
        "bytes": (here / "net.json").stat().st_size,
        "verified": False,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("vnmodell", "-o", "a.vnmodel"), "there is no exporter `vnmodell`"),
        (("vnmodel", "-o", "a.pkl"), "`vnmodel` writes .vnmodel, given was `a.pkl`"),
        (("vnmodel", "-o", "a", "--set", "model_di=3"), "model_di: unknown name; did you mean `model_id`"),
        (("vnmodel", "-o", "a", "--set", "model_id=-1"), "model_id: input should be greater than or equal to 0"),
        (("vnmodel", "-o", "a", "--set", "model_base_size_hw=[8, 8"), "is no TOML"),
    ],
)
def test_export_refuses(here: Path, amc_: Command, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = amc_("export", "net.pkl", *arguments)
    assert (code, out) == (2, "")
    assert words in err, err
    assert not list(here.glob("a*"))
