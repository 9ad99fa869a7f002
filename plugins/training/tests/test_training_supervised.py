from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_training import CheckpointError, SupervisedTrainer, TrainingError
from amc_training._fitting import fingerprint
from amc_training._optim import build_optimizer, rate_factor
from amc_training.data import digits
from amc_training.plugin import SupervisedSettings
from pydantic import ValidationError
from torch import nn

from amc_plugins.plugin import SettingsError
from amc_plugins.training import TrainingResult


class Run:
    """What a trainer is told a run can do."""

    def __init__(self, folder: Path | None = None, stop_after: int | None = None) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.epochs: list[tuple[int, dict[str, float]]] = []
        self.files: list[Path] = []

    def epoch_ended(self, epoch: int, metrics: Any) -> None:
        self.epochs.append((epoch, dict(metrics)))
        if epoch == self.stop_after:
            raise KeyboardInterrupt

    def artifact_written(self, path: Path) -> None:
        self.files.append(path)


def trainer(**settings: Any) -> SupervisedTrainer:
    return SupervisedTrainer(SupervisedSettings(**settings))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_the_digits(network: Any) -> None:
    net = network(dropout=0.1)
    before = copy.deepcopy(net)
    run = Run()
    result = trainer(epochs=8, learning_rate=0.05, warmup=0.5, label_smoothing=0.05).fit(
        net, digits("train"), digits("validation"), run=run
    )
    assert isinstance(result, TrainingResult)
    assert result.metrics["accuracy"] > 0.93
    assert result.metrics["accuracy"] == max(entry["val/accuracy"] for entry in result.history)
    right = sum(int((result.network(x).argmax(1) == y).sum()) for x, y in digits("test"))
    assert right / 300 > 0.90
    assert same(net, before) and net.training and all(parameter.grad is None for parameter in net.parameters())
    throughputs = [told.pop("throughput/samples_per_second") for _, told in run.epochs]
    assert run.epochs == list(enumerate(result.history, start=1)) and min(throughputs) > 0
    assert run.files == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "step", "none", "plateau"])
def test_every_optimizer_and_schedule_trains_reproducibly(optimizer: str, schedule: str, network: Any, loader: Any) -> None:
    def fit(seed: int) -> TrainingResult:
        settings = {
            "epochs": 3,
            "optimizer": optimizer,
            "schedule": schedule,
            "learning_rate": 0.05 if optimizer == "sgd" else 0.005,
        }
        train = loader(shuffle=True)
        return trainer(**settings).fit(network(dropout=0.2), train, loader("validation", 100), seed=seed)

    first, second, other = fit(1), fit(1), fit(2)
    assert first.history == second.history != other.history
    assert same(first.network, second.network) and not same(first.network, other.network)
    losses = [entry["train/total_loss"] for entry in first.history]
    assert losses[2] < 0.8 * losses[0]


def test_learning_rates() -> None:
    cosine = SupervisedSettings(epochs=10, warmup=2)
    assert [rate_factor(cosine, at) for at in (0, 1, 2, 6, 10, 11)] == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
    assert rate_factor(cosine, 4) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    step = SupervisedSettings(epochs=8, schedule="step", decay=0.2)
    assert [rate_factor(step, at) for at in (0, 3.9, 4, 5.9, 6)] == pytest.approx([1, 1, 0.2, 0.2, 0.04])
    constant = SupervisedSettings(epochs=8, schedule="none", warmup=1)
    assert [rate_factor(constant, at) for at in (0.25, 1, 8)] == [0.25, 1, 1]


def test_rates_move_every_step_and_without_a_length_every_epoch(network: Any, loader: Any) -> None:
    class NoLength:
        def __iter__(self) -> Any:
            return iter(loader(count=64))

    def rates(train: Any) -> list[float]:
        history = trainer(epochs=4, learning_rate=0.1).fit(network(), train).history
        return [entry["learning_rate"] / 0.1 for entry in history]

    settings = SupervisedSettings(epochs=4)
    # Of the last of 2 steps, which is the second half of an epoch.
    assert rates(loader(count=64)) == pytest.approx([rate_factor(settings, at) for at in (0.75, 1.75, 2.75, 3.75)])
    assert rates(NoLength()) == pytest.approx([rate_factor(settings, at) for at in (0.5, 1.5, 2.5, 3.5)])


def test_biases_and_normalisation_are_not_decayed(network: Any) -> None:
    net = network()
    net[0].bias.requires_grad_(False)
    decayed, spared = build_optimizer(net, SupervisedSettings(weight_decay=0.1)).param_groups
    assert [parameter.ndim for parameter in decayed["params"]] == [4, 2] and decayed["weight_decay"] == 0.1
    assert [parameter.shape[0] for parameter in spared["params"]] == [8, 8, 10] and spared["weight_decay"] == 0.0
    with pytest.raises(TrainingError, match="no parameter of the network needs a gradient"):
        trainer().fit(network().requires_grad_(False), [])


def test_the_best_epoch_is_by_metric_or_by_loss(network: Any, loader: Any) -> None:
    def fit(best_by: str) -> TrainingResult:
        return trainer(epochs=6, learning_rate=0.3, best_by=best_by, schedule="none").fit(
            network(), loader(), loader("validation", 60)
        )

    by_metric, by_loss = fit("metric"), fit("loss")
    assert by_metric.history == by_loss.history
    best = max(entry["val/accuracy"] for entry in by_metric.history)
    equal = [entry["val/total_loss"] for entry in by_metric.history if entry["val/accuracy"] == best]
    assert by_metric.metrics == {"accuracy": best, "total_loss": min(equal)}
    assert by_loss.metrics["total_loss"] == min(entry["val/total_loss"] for entry in by_loss.history)


def test_without_validation_the_last_epoch_is_kept(network: Any, loader: Any) -> None:
    result = trainer(epochs=2).fit(network(), loader())
    assert result.best_epoch == result.epochs == 2
    assert result.metrics == {"total_loss": result.history[1]["train/total_loss"]}


@pytest.mark.parametrize(
    ("loss", "metric"), [("mse", "absolute_error"), ("l1", "absolute_error"), ("smooth_l1", "absolute_error")]
)
def test_regression(loss: str, metric: str, loader: Any) -> None:
    def sums(split: str, count: int) -> Any:  # the mean ink of a digit, from its image
        return [(images, images.mean(dim=(1, 2, 3)).unsqueeze(1)) for images, _ in loader(split, count)]

    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    result = trainer(epochs=20, loss=loss, learning_rate=0.01, optimizer="adam").fit(
        net, sums("train", 200), sums("validation", 60)
    )
    assert result.metrics[metric] < 0.05 < result.history[0][f"val/{metric}"]
    assert result.metrics[metric] == min(entry[f"val/{metric}"] for entry in result.history)
    with pytest.raises(TrainingError, match=r"predictions have shape \(32, 1\), labels \(32,\)"):
        trainer(loss=loss).fit(net, [(images, images.mean(dim=(1, 2, 3))) for images, _ in loader()])


def test_several_labels_and_classes_per_pixel(loader: Any) -> None:
    pairs = [(images, images) for images, _ in loader(count=96)]
    several = [(images, (images.flatten(1)[:, 20:30] > 0.5).float()) for images, _ in pairs]
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    result = trainer(epochs=60, loss="bce", optimizer="adam", learning_rate=0.05).fit(net, several, several)
    assert result.metrics["accuracy"] > 0.95

    labels = [(images, (images[:, 0] > 0.5).long()) for images, _ in pairs]
    for _, label in labels:
        label[:, :2] = -100  # does not count
    pixels = nn.Conv2d(1, 2, 1)
    result = trainer(epochs=20, optimizer="adam", learning_rate=0.2).fit(pixels, labels, labels)
    assert result.metrics["accuracy"] > 0.99


def test_checkpoints_resume_in_the_folder_of_a_run(network: Any, loader: Any, tmp_path: Path) -> None:
    def fit(run: Run, resume: bool, **settings: Any) -> TrainingResult:
        given = {"epochs": 4, "learning_rate": 0.05, **settings}
        train = loader(shuffle=True)
        return trainer(**given).fit(network(dropout=0.2), train, loader("validation", 100), seed=3, run=run, resume=resume)

    whole = fit(Run(tmp_path / "whole"), True)  # nothing there yet: it starts
    run = Run(tmp_path / "parts", stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        fit(run, False)
    run.stop_after = None
    resumed = fit(run, True)
    assert [epoch for epoch, _ in run.epochs] == [1, 2, 3, 4]
    assert resumed.history == whole.history and same(resumed.network, whole.network)
    (best,) = run.files
    assert best == tmp_path / "parts" / "training" / fingerprint(network()) / "best.pt"
    assert torch.load(best, weights_only=True)["epoch"] == resumed.best_epoch

    # Another network in the same run has checkpoints of its own; other settings are refused, more epochs are not.
    other = trainer(epochs=1).fit(network(seed=1), loader(), run=run, resume=True)
    assert other.epochs == 1 and len(list((tmp_path / "parts" / "training").iterdir())) == 2
    with pytest.raises(SettingsError, match=r"`learning_rate` was 0\.05 and is 0\.1"):
        fit(run, True, learning_rate=0.1)
    assert fit(run, True, epochs=5).epochs == 5
    again = fit(run, False, epochs=1)  # without resume it starts afresh
    assert again.epochs == 1
    assert fit(run, True).history[:1] == again.history


def test_refusals(network: Any, loader: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="was given a teacher"):
        trainer().fit(network(), loader(), teacher=network())
    with pytest.raises(SettingsError, match="the run has no folder"):
        trainer().fit(network(), loader(), resume=True, run=Run(None))
    with pytest.raises(SettingsError, match="follows the validation set"):
        trainer(schedule="plateau").fit(network(), loader())
    run = Run(tmp_path)
    trainer(epochs=1).fit(network(), loader(), run=run)
    (path,) = (tmp_path / "training").glob("*/last.pt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "extra": {"trainer": "another"}}, path)
    with pytest.raises(TrainingError, match="written by the trainer 'another'"):
        trainer(epochs=1).fit(network(), loader(), run=run, resume=True)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError):
        trainer(epochs=1).fit(network(), loader(), run=run, resume=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "adam", "momentum": 0.5}, "`momentum` does nothing with `optimizer` 'adam': it needs 'sgd'"),
        ({"loss": "mse", "label_smoothing": 0.1}, "`label_smoothing` does nothing with `loss` 'mse'"),
        ({"schedule": "cosine", "decay": 0.5}, "`decay` does nothing with `schedule` 'cosine': it needs 'step' or 'plateau'"),
        ({"schedule": "step", "plateau_patience": 1}, "`plateau_patience` does nothing"),
        ({"schedule": "plateau", "warmup": 1}, "`warmup` does nothing"),
        ({"epochs": 2, "warmup": 3}, "`warmup` is 3 epochs, more than the 2"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"learning_rate": float("inf")}, "finite"),
        ({"lr": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SupervisedSettings(**given)
