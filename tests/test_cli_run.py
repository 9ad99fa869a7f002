"""`amc run|report|demo`: whole recipes from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import amc_plugins as amc
from amc_plugins.core import pipeline
from amc_plugins.core.recipe import read_recipe, resolved
from amc_plugins.demo.work import Demo
from tests.work_files import Command, recipe

EXPORTS = "[export.pkl]\n[export.vnmodel]\nsettings = { model_id = 5 }\n"


def test_a_dry_run_prints_a_recipe_that_is_the_same(here: Path, amc_: Command) -> None:
    path = recipe(here, more=EXPORTS)
    changes = ("--set", "compress.total=0.3", "--set", "title=Less", "--set", "data.settings={count=64}")
    changes += ("--set", "data.calibration=data.py:train")  # the other factory takes no `count`
    code, out, err = amc_("run", str(path), "--dry-run", *changes)
    assert code == 0 and not (here / "run").exists()
    assert "the recipe is valid" in err and str(here / "run") in err
    (here / "printed.toml").write_text(out)
    printed = read_recipe(here / "printed.toml")
    assert (printed.compress.total, printed.title, printed.data.settings) == (0.3, "Less", {"count": 64})
    assert printed.compress.settings["solver"] == "rrr"  # the defaults are there
    code, out, _ = amc_("run", str(path), "--dry-run", *changes, "--json")
    found = json.loads(out)
    assert found["recipe"] == resolved(printed)
    names = [step["name"] for step in found["steps"]]
    assert names == ["capture", "round1-compress", "round1-train", "export", "export", "report"]


def test_a_wrong_recipe_is_refused_with_all_its_problems(here: Path, amc_: Command) -> None:
    path = recipe(here)
    code, out, err = amc_(
        "run", str(path), "--set", "compress.method=lowrnk", "--set", "train.settings.epoch=1", "--set", "sed=1"
    )
    assert (code, out) == (2, "")
    for words in ("did you mean `lowrank`", "train.settings.epoch: unknown name; did you mean `epochs`", "sed: unknown name"):
        assert words in err
    assert "hint: `amc plugins show NAME` lists a plugin's settings" in err
    code, _, err = amc_("run", "none.toml")
    assert code == 2 and "the recipe `none.toml` cannot be read" in err


def test_a_missed_floor_is_an_answer_and_its_figures_are_printed(here: Path, amc_: Command) -> None:
    path = recipe(here, more="[floor]\naccuracy = 1.0\n")
    code, out, err = amc_("run", str(path), "--set", "report=false", "--set", "train.settings.epochs=1")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["STEP", "capture", "round1-compress", "round1-train"]
    assert "error: the result's validation accuracy is 0." in err and "below the floor of 1" in err
    code, out, err = amc_("run", str(path), "--set", "report=false", "--set", "train.settings.epochs=1", "--json")
    assert code == 1 and json.loads(out)["passed"] is False
    assert "going on in " in err and "capture, round1-compress, round1-train done before" in err


def test_ctrl_c_says_how_to_go_on(here: Path, amc_: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(here)

    def killed(self: Any, *arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline._Runner, "trained", killed)
        code, out, err = amc_("run", str(path))
    assert (code, out) == (130, "")
    hint = f"hint: finished steps are kept in {here / 'run'}, its log is log.txt; the same command goes on"
    assert "error: interrupted" in err and hint in err
    code, out, err = amc_("run", str(path), "--json")
    assert code == 0 and "going on in" in err
    assert [step["name"] for step in json.loads(out)["steps"]] == ["capture", "round1-compress", "round1-train", "export"]


def test_the_report_is_written_again(here: Path, amc_: Command) -> None:
    path = recipe(here)
    assert amc_("run", str(path), "--set", "report=false")[0] == 0
    assert not (here / "run" / "report.html").exists()
    code, out, err = amc_("report", "run")
    assert (code, out, err) == (0, "run/report.html\n", "")
    assert "A test" in (here / "run" / "report.html").read_text()
    code, out, err = amc_("report", str(here))
    assert code == 2 and "holds no results.json" in err


# --- the demo ---


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A quick demo in a process of its own."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "amc_plugins", "demo", "--folder", "it", "--quick", "--json"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "it", json.loads(done.stdout)


def test_the_demo_does_the_main_job(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, found = demo
    steps = {step["step"]: step for step in found["steps"]}
    assert list(steps) == ["trained", "pruned", "pruned, retrained", "decomposed", "decomposed, retrained"]
    for name in list(steps)[1:]:
        assert 0.5 <= steps[name]["removed"] < 0.53
        assert steps[name]["macs"] == pytest.approx(steps["trained"]["macs"] * (1 - steps[name]["removed"]))
    assert steps["trained"]["test"] > 0.85
    assert min(steps[name]["test"] for name in ("pruned, retrained", "decomposed, retrained")) > steps["trained"]["test"] - 0.03
    assert [Path(one["path"]).suffix for one in found["files"]] == [".pkl", ".json", ".vnmodel"] * 2
    assert all(one["equal"] and (folder.parent / one["path"]).stat().st_size == one["bytes"] for one in found["files"])
    assert all((folder.parent / report).is_file() for report in found["reports"]) and len(found["reports"]) == 2


def test_the_demos_recipes_are_recipes(demo: tuple[Path, dict[str, Any]], amc_: Command) -> None:
    folder, _ = demo
    code, out, _ = amc_("run", str(folder / "pruned.toml"), "--set", "folder=again", "--dry-run")
    assert code == 0 and 'method = "pruning"' in out
    code, out, _ = amc_("profile", str(folder / "trained.pkl"), "--compare", str(folder / "decomposed" / "network.pkl"))
    assert code == 0 and out.splitlines()[-1].startswith("total")


def test_a_demo_that_is_resumed_says_what_it_keeps(
    demo: tuple[Path, dict[str, Any]], amc_: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = demo
    monkeypatch.chdir(folder.parent)
    code, out, err = amc_("demo", "--folder", "it", "--quick", "--resume", "--json")
    assert code == 0
    assert "kept from before: it/resnet.pt" in err
    assert err.count("kept from before: capture, round1-compress, round1-train") == 2
    assert json.loads(out)["steps"] == before["steps"]
    code, out, err = amc_("demo", "--folder", "it", "--quick", "--resume")
    assert code == 0
    rows = [line.split("  ")[0] for line in out.splitlines()]
    assert {"trained", "pruned, retrained", "decomposed, retrained"} <= set(rows)
    assert out.count("equal bit for bit") == 6 and "try next   amc profile it/trained.pkl" in out
    code, _, err = amc_("demo", "--folder", "it", "--resume")
    assert code == 2 and "was started with --quick" in err


def test_the_demo_leaves_other_folders_alone(here: Path, amc_: Command) -> None:
    before = sorted(here.iterdir())
    code, _, err = amc_("demo", "--folder", ".")
    assert code == 2 and "exists and is no demo's folder" in err and "--folder" in err
    code, _, err = amc_("demo", "--folder", "new", "--resume")
    assert code == 2 and "there is no demo to resume in `new`" in err
    assert sorted(here.iterdir()) == before


def test_an_earlier_demo_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    demo = Demo(tmp_path / "it", quick=True, say=said.append)

    def killed(self: Any, seconds: float) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Demo, "_captured", killed)
    monkeypatch.setattr("amc_plugins.demo.recipes.size", lambda quick: (2, 1))
    with pytest.raises(KeyboardInterrupt):
        demo.run()
    first = torch.load(tmp_path / "it" / "resnet.pt", weights_only=True)
    (tmp_path / "it" / "mine.txt").write_text("kept")
    with pytest.raises(KeyboardInterrupt):
        demo.run(resume=True)
    assert "kept from before" in said[-1]
    (tmp_path / "it" / "resnet.pt").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        demo.run()
    assert said[-2].startswith(f"replacing the earlier demo in {tmp_path / 'it'}")
    again = torch.load(tmp_path / "it" / "resnet.pt", weights_only=True)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert (tmp_path / "it" / "mine.txt").read_text() == "kept"


def test_the_demo_names_what_is_missing(amc_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    code, _, err = amc_("demo", "--folder", str(tmp_path / "it"))
    assert code == 2
    assert "the images of the demo ship in scikit-learn, which is not installed\n\nhint: pip install scikit-learn" in err


def test_no_random_state_is_left_by_the_demos_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amc_plugins.demo.recipes.size", lambda quick: (2, 1))
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    demo = Demo(tmp_path / "it", quick=True)
    monkeypatch.setattr(Demo, "_branch", lambda self, name, path, observers: None)
    result = demo.run()
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert result.profile.total_macs == amc.profile(amc.load(tmp_path / "it" / "trained.pkl")).total_macs


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_on_a_terminal_each_step_is_said_once(here: Path) -> None:
    import pty

    path = recipe(here)
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "amc_plugins", "run", str(path), "--set", "report=false"]
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "AMC_NO_PROGRESS")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=writer, cwd=here, env={**kept, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    )
    os.close(writer)
    shown = b""
    try:
        while chunk := os.read(reader, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(reader)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.startswith(b"STEP")
    assert shown.count(b"round1-train: ") == 1 and shown.count(b"round1-compress: ") == 1
    assert b"epochs" in shown  # the trainer's own bar
