"""What the trainers of this distribution share: from settings and labelled batches to a training that can be resumed."""

from __future__ import annotations

import copy
import hashlib
import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import nn

from amc_plugins.plugin import SettingsError
from amc_plugins.training import Trainer, TrainingResult
from amc_training import _checkpoint
from amc_training._base import BaseTrainer
from amc_training._errors import TrainingError
from amc_training._optim import build_optimizer, build_scheduler
from amc_training._tasks import metric_of, training_loss, validation_loss
from amc_training._values import device_of, labels, length

if TYPE_CHECKING:
    from amc_training._settings import LabelledSettings

__all__ = ["Batches", "LabelledLoop", "LabelledTrainer", "RunLike", "fingerprint"]

_ELSEWHERE = {"epochs", "device", "checkpoint_steps"}
"""Settings that make no difference to what is trained until then: they may differ when a training is resumed."""


class RunLike(Protocol):
    """What of a run a trainer uses."""

    @property
    def folder(self) -> Path | None:
        """Where files go, or None."""

    def epoch_ended(self, epoch: int, metrics: Mapping[str, float], /) -> object:
        """Tell the observers about an epoch."""

    def artifact_written(self, path: Path, /) -> object:
        """Tell the observers about a file."""


class Batches:
    """What a training reads and where it writes."""

    def __init__(
        self, train: Iterable[Any], validation: Iterable[Any] | None, seed: int, folder: Path | None, run: RunLike | None
    ) -> None:
        self.train, self.validation, self.seed, self.folder, self.run = train, validation, seed, folder, run


class LabelledLoop(BaseTrainer):
    """A training with labels, from settings. `helper` is trained with the network."""

    name: ClassVar[str]
    _settings: LabelledSettings

    def __init__(
        self, network: nn.Module, settings: LabelledSettings, batches: Batches, helper: nn.Module | None = None
    ) -> None:
        network.zero_grad(set_to_none=True)
        learned = network if helper is None else nn.ModuleList([network, helper])
        device = torch.device(settings.device) if settings.device else device_of(network)
        learned.to(device)
        optimizer = build_optimizer(learned, settings)
        scheduler, interval = build_scheduler(optimizer, settings, self._steps_per_epoch(batches.train, settings.accumulation))
        super().__init__(
            train_loader=batches.train,
            val_loader=batches.validation,
            eval_loader=None,
            network=network,
            criterion=training_loss(settings),
            optimizer=optimizer,
            scheduler=scheduler,
            epochs=settings.epochs,
            device=device,
            checkpoints_folder=batches.folder,
            scheduler_interval=interval,
            seed=batches.seed,
            mixed_precision=settings.mixed_precision,
            accumulation=settings.accumulation,
            clip_norm=settings.clip_norm,
            ema_decay=settings.ema_decay,
            patience=settings.patience,
            checkpoint_steps=settings.checkpoint_steps,
        )
        self._settings, self._run_told = settings, batches.run
        if batches.run is not None:
            self._epoch_level = logging.DEBUG  # the run logs epochs, those of every trainer alike
        self._metric = metric_of(settings)
        self._val_criterion = validation_loss(settings)

    @staticmethod
    def _steps_per_epoch(train: Iterable[Any], accumulation: int) -> int | None:
        batches = length(train)
        return None if batches is None else -(-batches // accumulation)

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
        return {"trainer": self.name, "seed": self._seed, "settings": self._settings.model_dump(mode="json")}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        ours = self.extra_state()
        if state.get("trainer") != ours["trainer"]:
            raise TrainingError(f"the checkpoint was written by the trainer {state.get('trainer')!r}, not {self.name!r}")
        theirs = {"seed": state["seed"], **state["settings"]}
        mine = {"seed": ours["seed"], **ours["settings"]}
        other = [name for name in mine if name not in _ELSEWHERE and mine[name] != theirs.get(name)]
        if other:
            said = ", ".join(f"`{name}` was {theirs.get(name)!r} and is {mine[name]!r}" for name in other)
            raise SettingsError(
                f"the training to resume had other settings: {said}", hint="use the same settings, or do not resume"
            )


class LabelledTrainer(Trainer):
    """Trains a copy of a network on `(input, label)` batches; see `Trainer.fit`.

    `input` is a tensor or a tuple of the network's inputs. The history has `train/total_loss`, `learning_rate` and, with a
    validation loader, `val/total_loss` and the metric, `val/accuracy` for example; the result's metrics are the validation's of
    the best epoch, without the prefix. Its network is in eval mode, on the device of the training.
    """

    settings: Any
    name: ClassVar[str]

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
            SettingsError: a teacher that is not used or is missing, a resume without a folder or with other settings, or a
                setting that needs a validation loader.
            TrainingError, NonFiniteLossError, CheckpointError: see `BaseTrainer.run` and `BaseTrainer.resume`.
        """
        self.check_teacher(teacher)
        if validation is None:
            for setting, needs in (
                ("schedule", self.settings.schedule == "plateau"),
                ("patience", bool(self.settings.patience)),
            ):
                if needs:
                    raise SettingsError(
                        f"`{setting}` = {getattr(self.settings, setting)!r} follows the validation set",
                        hint=f"give a validation loader, or another `{setting}`",
                    )
        folder = None if run is None or run.folder is None else run.folder / "training" / fingerprint(network)
        if resume and folder is None:
            raise SettingsError("there is nothing to resume from: the run has no folder", hint="give the run a folder")
        loop = self.loop(copy.deepcopy(network), Batches(train, validation, seed, folder, run), teacher)
        if resume:
            loop.resume()
        result = self.finished(loop.run())
        best = None if folder is None else folder / _checkpoint.BEST
        if run is not None and best is not None and best.exists():
            run.artifact_written(best)
        return result

    def check_teacher(self, teacher: nn.Module | None) -> None:
        """Refuse a teacher; trainers that learn from one override this."""
        if teacher is not None:
            raise SettingsError(
                f"`{self.name}` learns from labels alone and was given a teacher", hint="use `distillation`, or no teacher"
            )

    @abstractmethod
    def loop(self, network: nn.Module, batches: Batches, teacher: nn.Module | None) -> LabelledLoop:
        """The training of `network`, a copy that it may change."""

    def finished(self, result: TrainingResult) -> TrainingResult:
        """What comes out of a finished training."""
        return result


def fingerprint(network: nn.Module) -> str:
    """12 hexadecimal digits of a hash over a network's tensors and their names."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
