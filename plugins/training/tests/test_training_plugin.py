from __future__ import annotations

import io
import runpy
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


def test_the_class_of_the_source_page_reaches_the_accuracy_of_a_bare_loop(
    parts: Any, loader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    folder = ROOT / "examples" / "source_programs"
    monkeypatch.syspath_prepend(str(folder))
    page = runpy.run_path(str(folder / "code3.py"), run_name="code3")
    held_out = loader("validation", 300)

    def given() -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        made = parts(train_loader=loader(count=1197, shuffle=True, generator=generator), val_loader=held_out, epochs=6)
        return {**made, "scheduler": ReduceLROnPlateau(made["optimizer"], factor=0.1, threshold=1e-5, patience=15, min_lr=1e-6)}

    def accuracy(network: Any) -> float:
        network.eval()
        with torch.no_grad():
            right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in held_out)
        return right / 300

    bare = given()
    least, best, weights = float("inf"), 0.0, {}
    for _ in range(bare["epochs"]):
        bare["network"].train()
        for images, labels in bare["train_loader"]:
            bare["optimizer"].zero_grad()
            bare["criterion"](bare["network"](images), labels).backward()
            bare["optimizer"].step()
        bare["network"].eval()
        with torch.no_grad():
            losses = [len(labels) * float(bare["criterion"](bare["network"](images), labels)) for images, labels in held_out]
        bare["scheduler"].step(sum(losses) / 300)
        if sum(losses) < least:
            least, best = sum(losses), accuracy(bare["network"])
            weights = {name: value.clone() for name, value in bare["network"].state_dict().items()}

    result = page["CIFAR10Trainer"](**given()).__run__(stop_lr=1e-6)
    assert result.epochs == 6
    assert accuracy(result.network) == best > 0.93
    assert all(torch.equal(value, weights[name]) for name, value in result.network.state_dict().items())
