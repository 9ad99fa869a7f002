from __future__ import annotations

import io
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import amc_training
import pytest
from amc_training import BaseTrainer, _progress, plugin

from amc_plugins.training import Trainer

ROOT = Path(__file__).resolve().parents[3]


def heavy_after(statement: str) -> set[str]:
    """Which heavy packages a statement imports, in a new process."""
    heavy = {"torch", "numpy", "sklearn", "tensorboardX", "rich", "accelerate", "kornia", "PIL"}
    code = f"import sys\n{statement}\nprint(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_the_light_modules_import_nothing_heavy() -> None:
    light = "import amc_training.plugin, amc_training.data; list(amc_training.plugin.amc_trainers())"
    assert heavy_after(light) == set()
    assert {"torch", "numpy"} <= heavy_after("from amc_training import BaseTrainer")  # the probe can see
    assert "rich" not in heavy_after("from amc_training import *")


def test_declarations_are_the_entry_points_and_their_targets_exist() -> None:
    for group, hook in (("trainers", plugin.amc_trainers), ("observers", plugin.amc_observers)):
        declared = list(hook())
        installed = [entry.name for entry in entry_points(group=f"amc_plugins.{group}") if entry.value == "amc_training.plugin"]
        assert sorted(installed) == sorted(spec.name for spec in declared)
        for spec in declared:
            module, _, name = spec.target.partition(":")
            target = getattr(import_module(module), name)
            assert target(spec.settings()) is not None
            assert all(field.description for field in spec.settings.model_fields.values())
    assert issubclass(amc_training.SupervisedTrainer, Trainer)


def test_lazy_names() -> None:
    names: dict[str, Any] = {}
    exec("from amc_training import *", names)
    assert {"BaseTrainer", "SupervisedTrainer"} <= set(names)
    assert set(amc_training.__all__) <= set(dir(amc_training))
    for module in (amc_training, import_module("amc_training.data")):
        with pytest.raises(AttributeError, match="nothing"):
            _ = module.nothing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals(parts: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("AMC_NO_PROGRESS", raising=False)
    BaseTrainer(**parts()).run()
    assert capsys.readouterr() == ("", "")

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert _progress.wanted()
    BaseTrainer(**parts()).run()
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "epochs" in shown and "2/2" in shown

    monkeypatch.setenv("AMC_NO_PROGRESS", "1")
    monkeypatch.setattr(sys, "stderr", Terminal())
    BaseTrainer(**parts()).run()
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_the_program_of_the_source_page_runs(tmp_path: Path, read_scalars: Any) -> None:
    import torch

    program = str(ROOT / "examples" / "source_programs" / "code3.py")
    options = ["--epochs", "1", "--num_workers", "0", "--checkpoints_folder", str(tmp_path), "--run_name", "page"]
    done = subprocess.run([sys.executable, program, *options], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["epoch"] == 1 and state["step"] == 10
    found = read_scalars(tmp_path / "page")
    losses = [value for _, value in found["train_step/total_loss"]]
    assert len(losses) == 10 and losses[-1] < 0.8 * losses[0]
    assert found["val/total_loss"] == [(1, pytest.approx(state["history"][0]["val/total_loss"]))]
