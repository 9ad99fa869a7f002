"""The trainer `supervised`: retrains a network on labels, on top of `BaseTrainer`."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from amc_plugins.plugin import SettingsError
from amc_plugins.training import Trainer, TrainingResult
from amc_training import _checkpoint
from amc_training._base import BaseTrainer
from amc_training._errors import TrainingError
from amc_training._losses import LOSSES, Loss
from amc_training._optim import build_optimizer, build_scheduler
from amc_training._values import labels

if TYPE_CHECKING:
    from amc_training.plugin import SupervisedSettings

__all__ = ["SupervisedTrainer"]


class RunLike(Protocol):
    """What of a run a trainer uses."""

    @property
    def folder(self) -> Path | None:
        """Where files go, or None."""

    def epoch_ended(self, epoch: int, metrics: Mapping[str, float], /) -> object:
        """Tell the observers about an epoch."""

    def artifact_written(self, path: Path, /) -> object:
        """Tell the observers about a file."""


class SupervisedTrainer(Trainer):
    """Trains on `(input, label)` batches: classes, classes per pixel, several labels, or numbers, by choice of `loss`.

    `input` is a tensor or a tuple of the network's inputs. The history has `train/total_loss`, `learning_rate` and, with a
    validation loader, `val/total_loss` and `val/accuracy` (or `val/absolute_error`); the result's metrics are the
    validation's of the best epoch, without the prefix. Its network is in eval mode, on the device of the training.
    """

    settings: SupervisedSettings

    def fit(
        self,
        network: nn.Module,
        train: Iterable[Any],
        validation: Iterable[Any] | None = None,
        *,
        seed: int = 0,
        teacher: nn.Module | None = None,
        run: RunLike | None = None,
        resume: bool = False,
    ) -> TrainingResult:
        """Train a copy of `network`; see `Trainer.fit`.

        Checkpoints go to `<run.folder>/training/<fingerprint of the network given>`, so that several trainings in one run,
        each of another network, find their own.

        Raises:
            SettingsError: a teacher, a resume without a folder or with other settings, or a schedule that needs a
                validation loader.
            TrainingError, NonFiniteLossError, CheckpointError: see `BaseTrainer.run` and `BaseTrainer.resume`.
        """
        if teacher is not None:
            raise SettingsError(
                "`supervised` learns from labels alone and was given a teacher", hint="use a trainer that distils"
            )
        if self.settings.schedule == "plateau" and validation is None:
            raise SettingsError(
                "schedule 'plateau' follows the validation loss", hint="give a validation loader, or schedule='cosine'"
            )
        folder = None if run is None or run.folder is None else run.folder / "training" / fingerprint(network)
        if resume and folder is None:
            raise SettingsError("there is nothing to resume from: the run has no folder", hint="give the run a folder")
        loop = _Loop(copy.deepcopy(network), train, validation, self.settings, seed, folder, run)
        if resume:
            loop.resume()
        result = loop.run()
        best = None if folder is None else folder / _checkpoint.BEST
        if run is not None and best is not None and best.exists():
            run.artifact_written(best)
        return result


class _Loop(BaseTrainer):
    def __init__(
        self,
        network: nn.Module,
        train: Iterable[Any],
        validation: Iterable[Any] | None,
        settings: SupervisedSettings,
        seed: int,
        folder: Path | None,
        run: RunLike | None,
    ) -> None:
        network.zero_grad(set_to_none=True)
        loss: Loss = LOSSES[settings.loss]
        optimizer = build_optimizer(network, settings)
        scheduler, interval = build_scheduler(optimizer, settings, len(train) if isinstance(train, Sized) else None)
        super().__init__(
            train_loader=train,
            val_loader=validation,
            eval_loader=None,
            network=network,
            criterion=loss.build(settings.label_smoothing),
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=settings.epochs,
            device=settings.device or next(network.parameters()).device,
            checkpoints_folder=folder,
            scheduler_interval=interval,
            seed=seed,
        )
        self._settings, self._run_told = settings, run
        if run is not None:
            self._epoch_level = logging.DEBUG  # the run logs epochs, those of every trainer alike
        self._metric = loss.metric
        self._val_criterion = loss.build(0.0)

    def get_val_losses(self, batch_preds: Any, batch_val_data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"total_loss": self._val_criterion(batch_preds, labels(batch_val_data, self._device))}

    def get_val_metrics(self, batch_preds: Any, batch_val_data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {self._metric.name: self._metric.measure(batch_preds, labels(batch_val_data, self._device))}

    def get_score(self, values: Mapping[str, float]) -> tuple[float, ...]:
        metric = values[self._metric.name] if self._metric.higher_is_better else -values[self._metric.name]
        by_loss = (-values["total_loss"],)
        return (metric, *by_loss) if self._settings.best_by == "metric" else by_loss

    def epoch_ended(self, epoch: int, values: Mapping[str, float]) -> None:
        if self._run_told is not None:
            self._run_told.epoch_ended(epoch, values)

    def extra_state(self) -> dict[str, Any]:
        return {"trainer": "supervised", "seed": self._seed, "settings": self._settings.model_dump(mode="json")}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        ours = self.extra_state()
        if state.get("trainer") != ours["trainer"]:
            raise TrainingError(f"the checkpoint was written by the trainer {state.get('trainer')!r}, not 'supervised'")
        # More epochs are a common wish; where to train makes no difference to what is trained.
        theirs = {"seed": state["seed"], **state["settings"]}
        mine = {"seed": ours["seed"], **ours["settings"]}
        other = [name for name in mine if name not in {"epochs", "device"} and mine[name] != theirs.get(name)]
        if other:
            said = ", ".join(f"`{name}` was {theirs.get(name)!r} and is {mine[name]!r}" for name in other)
            raise SettingsError(
                f"the training to resume had other settings: {said}", hint="use the same settings, or do not resume"
            )


def fingerprint(network: nn.Module) -> str:
    """12 hexadecimal digits of a hash over a network's tensors and their names."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
