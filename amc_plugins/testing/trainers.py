"""Checks of trainers, on a small residual network and digits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from amc_plugins.core.errors import AmcError
from amc_plugins.core.hookspecs import hookimpl
from amc_plugins.graph import ReconstructedNetwork
from amc_plugins.testing.checks import DoesNotApply, Subject, check
from amc_plugins.testing.scenes import batches, digits, made, residual
from amc_plugins.testing.unchanged import assert_untouched, fingerprint, same_tensors, steady_random_states
from amc_plugins.training import Run, Trainer, TrainingResult

__all__ = ["Under"]


class Under(Subject):
    """A trainer. One that must have a teacher gets the network itself, frozen."""

    def preferred(self) -> dict[str, Any]:
        return {"epochs": 3}

    def fit(
        self, network: nn.Module, seed: int = 0, run: Run | None = None, resume: bool = False, **data: Any
    ) -> TrainingResult:
        """One training of the digits."""
        trainer: Trainer = self.make()
        arguments: dict[str, Any] = {"train": batches(), "validation": batches(40, 20, seed=5), **data}
        teacher = residual() if self._needs_teacher else None
        train, validation = arguments.pop("train"), arguments.pop("validation")
        return trainer.fit(network, train, validation, seed=seed, teacher=teacher, run=run, resume=resume)

    @cached_property
    def _needs_teacher(self) -> bool:
        try:
            self.make().fit(residual(), batches(24), None, seed=0)
        except AmcError as error:
            return "teacher" in str(error)
        return False

    @cached_property
    def result(self) -> TrainingResult:
        return self.fit(residual())


class _Watcher:
    """Counts epochs, and stops the training after some."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.stop_after = stop_after

    @hookimpl
    def amc_epoch_ended(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.told.append((epoch, dict(metrics)))
        if epoch == self.stop_after:
            raise KeyboardInterrupt


@check("trainers")
def check_inputs_are_left_alone(subject: Under) -> None:
    """Training changes neither the network given nor the batches; the result is another network."""
    network, train = residual(), batches()
    before, data = fingerprint(network), fingerprint(train)
    result = subject.fit(network, train=train)
    assert_untouched(network, before, "the network given to `fit`")
    assert_untouched(train, data, "the batches")
    assert result.network is not network, "the result is the network that was given"


@check("trainers")
def check_random_states_are_left_alone(subject: Under) -> None:
    """The global random states of Python, numpy and torch are as they were."""
    with steady_random_states("`fit`"):
        subject.fit(residual())


@check("trainers")
def check_repeatable(subject: Under) -> None:
    """Equal seeds give equal networks, bit for bit, whatever the global random state is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        again = subject.fit(residual())
    differs = same_tensors(again.network, subject.result.network)
    assert differs is None, f"a second run with the same seed gives another `{differs}`"
    assert again.history == subject.result.history, "a second run with the same seed has another history"


@check("trainers")
def check_it_learns(subject: Under) -> None:
    """A network with a new last layer classifies the training digits better after training than before."""
    network = residual()
    with torch.no_grad():
        for parameter in network.layer("head").parameters():
            parameter.zero_()
    images, labels = digits(96)
    trained = subject.fit(network, validation=None).network
    before, after = (_loss(one, images, labels) for one in (network, trained))
    assert after < before, f"the cross-entropy of the training digits goes from {before:.3f} to {after:.3f}"


def _loss(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(nn.functional.cross_entropy(network.eval()(images), labels))


@check("trainers")
def check_history_is_complete(subject: Under) -> None:
    """The history has an entry for each epoch, the best epoch is one of them with its metrics, and a run is told of each."""
    watcher = _Watcher()
    with tempfile.TemporaryDirectory() as folder, Run("check", folder, [watcher]) as run:
        result = subject.fit(residual(), run=run)
    assert result.epochs >= 1, f"{result.epochs} epochs"
    assert len(result.history) == result.epochs, f"{result.epochs} epochs, and a history of {len(result.history)}"
    assert [epoch for epoch, _ in watcher.told] == list(range(1, result.epochs + 1)), (
        f"the run is told of the epochs {[epoch for epoch, _ in watcher.told]}, there were {result.epochs}"
    )
    assert 1 <= result.best_epoch <= result.epochs, f"best epoch {result.best_epoch} of {result.epochs}"
    assert result.metrics, "the result has no metrics"
    best = result.history[result.best_epoch - 1]
    wrong = [name for name, value in result.metrics.items() if name in best and best[name] != value]
    assert not wrong, f"`{wrong[0]}` of the result is not the best epoch's"


@check("trainers")
def check_without_validation(subject: Under) -> None:
    """Without validation data it trains too, and the last epoch is the best."""
    result = subject.fit(residual(), validation=None)
    assert result.best_epoch == result.epochs, f"best epoch {result.best_epoch} of {result.epochs}, with nothing to choose by"


@check("trainers")
def check_resumed_equals_uninterrupted(subject: Under) -> None:
    """A training that was stopped after its first epoch goes on in its run folder to the same bits as one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Run("check", folder, [_Watcher(stop_after=1)]) as run:
                whole = subject.fit(residual(), run=run)
        except KeyboardInterrupt:
            pass
        else:
            raise DoesNotApply(f"its training has {whole.epochs} epochs, so it cannot be stopped after the first")
        watcher = _Watcher()
        with Run("check", folder, [watcher]) as run:
            resumed = subject.fit(residual(), run=run, resume=True)
    if subject.result.epochs == 1:
        raise DoesNotApply("it trains one epoch: give the check settings for two or more")
    assert [epoch for epoch, _ in watcher.told] == list(range(2, subject.result.epochs + 1)), (
        f"it was stopped after epoch 1 and goes on with {[epoch for epoch, _ in watcher.told]}"
    )
    differs = same_tensors(resumed.network, subject.result.network)
    assert differs is None, f"the resumed training gives another `{differs}` than the uninterrupted one"
    assert resumed.history == subject.result.history, "the resumed training has another history"


@check("trainers")
def check_nothing_to_resume(subject: Under) -> None:
    """`resume` in an empty run folder starts at the beginning."""
    with tempfile.TemporaryDirectory() as folder, Run("check", folder) as run:
        result = subject.fit(residual(), run=run, resume=True)
    differs = same_tensors(result.network, subject.result.network)
    assert differs is None, f"`resume` without a checkpoint gives another `{differs}`"


@check("trainers")
def check_any_module(subject: Under) -> None:
    """A captured network stays one, and takes and gives what it did; plain modules train as well, or are refused clearly."""
    images = digits(4)[0]
    result = subject.result.network
    assert isinstance(result, ReconstructedNetwork), f"a captured network comes back as a {type(result).__name__}"
    with torch.no_grad():
        shape = tuple(result.eval()(images).shape)
    assert shape == (4, 10), f"the trained network makes outputs of shape {shape}, the one given made (4, 10)"
    plain = made(_plain)
    try:
        trained = subject.fit(plain).network
    except AmcError:
        return
    assert type(trained) is type(plain), f"a {type(plain).__name__} comes back as a {type(trained).__name__}"
    assert same_tensors(trained, plain) is not None, "training changes no tensor of a plain module"


def _plain() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@check("trainers")
def check_no_data_is_refused(subject: Under) -> None:
    """A training loader that gives nothing is refused as an `AmcError`."""
    try:
        result = subject.fit(residual(), train=[])
    except AmcError:
        return
    except Exception as error:
        raise AssertionError(f"no training data raises {type(error).__name__} ({error}) instead of an AmcError") from error
    raise AssertionError(f"no training data gives a result after {result.epochs} epochs")
