from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amc_training import BaseTrainer
from amc_training._tensorboard import TensorboardObserver
from amc_training.plugin import TensorboardSettings
from tensorboardX import SummaryWriter

from amc_plugins.training import Run


def test_a_run_is_written_and_readable(tmp_path: Path, read_scalars: Any) -> None:
    observer = TensorboardObserver(TensorboardSettings(folder="events"))
    with Run("a run", tmp_path, [observer]) as run:
        run.layer_compressed("layer1.0.conv1", error=0.125, macs=4096)
        run.layer_compressed("layer1.0.conv1", error=0.25, macs=2048)
        run.layer_compressed("conv1", error=float("nan"), macs=1024)
        run.candidate_scored({"a": 3}, {"score": 0.5, "macs": 10})
        run.candidate_scored({"a": 4}, {"score": 0.75})
        for first in (1.0, 2.0):  # two trainings in one run
            for epoch in (1, 2):
                run.epoch_ended(epoch, {"train/total_loss": first / epoch, "learning_rate": 0.5})
    assert read_scalars(tmp_path / "events") == {
        "layer_error/layer1.0.conv1": [(1, 0.125), (2, 0.25)],
        "layer_macs/conv1": [(1, 1024.0)],
        "layer_macs/layer1.0.conv1": [(1, 4096), (2, 2048)],
        "candidate/score": [(1, 0.5), (2, 0.75)],
        "candidate/macs": [(1, 10)],
        "train/total_loss": [(1, 1), (2, 0.5)],
        "learning_rate": [(1, 0.5), (2, 0.5)],
        "training_2/train/total_loss": [(1, 2), (2, 1)],
        "training_2/learning_rate": [(1, 0.5), (2, 0.5)],
    }


def test_a_run_without_a_folder_writes_only_to_an_absolute_one(
    tmp_path: Path, read_scalars: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for settings in (None, TensorboardSettings(folder=str(tmp_path / "absolute"))):
        with pytest.raises(ValueError, match="the run's own"), Run("a run", None, [TensorboardObserver(settings)]) as run:
            run.epoch_ended(1, {"val/accuracy": 0.5})
            raise ValueError("the run's own")
    assert [path.name for path in tmp_path.iterdir()] == ["absolute"]
    assert read_scalars(tmp_path / "absolute") == {"val/accuracy": [(1, 0.5)]}


def test_a_trainer_writes_to_a_tensorboardx_writer(tmp_path: Path, parts: Any, read_scalars: Any) -> None:
    with SummaryWriter(logdir=str(tmp_path)) as writer:
        result = BaseTrainer(**parts(tbx_writer=writer)).run()
    found = read_scalars(tmp_path)
    assert [step for step, _ in found["train_step/total_loss"]] == list(range(1, 15))
    losses = [entry["val/total_loss"] for entry in result.history]
    assert found["val/total_loss"] == [(1, pytest.approx(losses[0])), (2, pytest.approx(losses[1]))]
    assert found["learning_rate"] == [(1, pytest.approx(0.05)), (2, pytest.approx(0.05))]
