"""The loop of a training: one epoch of steps, what follows it, and what ends it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from amc_plugins.training import TrainingResult
from amc_training import _checkpoint, _rng
from amc_training._checks import bad_weight, not_finite
from amc_training._errors import NonFiniteLossError, TrainingError, TrainingInterrupted
from amc_training._saving import Saving, copied
from amc_training._values import Means, batch_size, device_of, floats, length, total_loss

if TYPE_CHECKING:
    from amc_training._interrupt import Request
    from amc_training._progress import Progress

__all__ = ["Loop"]

logger = logging.getLogger(__name__)


class Loop(Saving):
    """Trains epoch by epoch, with the steps of a subclass."""

    _eval_loader: Iterable[Any] | None
    _tbx_writer: Any
    _accumulation: int
    _patience: int | None
    _checkpoint_steps: int | None
    _rate: float
    _epoch_level: int

    # ------------------------------------------------------------------ one epoch

    def _run_epoch(
        self, train: Iterable[Any], val: Iterable[Any] | None, shown: Progress, asked: Request, kwargs: dict[str, Any]
    ) -> None:
        started = time.perf_counter()
        trained = self._train(train, shown, asked, kwargs)
        seconds = time.perf_counter() - started
        trained.sum_over_processes(self._summed)
        entry = {f"train/{name}": value for name, value in trained.result().items()}
        entry["learning_rate"] = self._rate
        validated = None if val is None else self.evaluate(val, **kwargs)
        entry.update({f"val/{name}": value for name, value in (validated or {}).items()})
        self._refuse_bad_weights()
        self._epoch += 1
        self._history.append(entry)
        if self._scheduler is not None and self.scheduler_interval == "epoch":
            if isinstance(self._scheduler, ReduceLROnPlateau):
                self._scheduler.step(entry["val/total_loss"])
            else:
                self._scheduler.step()
        improved = validated is not None and self._remember_best(validated)
        told = {**entry, "throughput/samples_per_second": trained.samples / max(seconds, 1e-9)}
        for name, value in told.items():
            self._log(name, value, self._epoch)
        self._stopped = bool(self.if_stop_training(**kwargs)) or self._is_stale()
        self._save(improved)
        if self._is_main():
            text = ", ".join(f"{name} {value:.4g}" for name, value in entry.items())
            logger.log(self._epoch_level, "epoch %d of %d: %s", self._epoch, self._epochs, text)
            shown.note(text)
            self.epoch_ended(self._epoch, told)

    def _train(self, loader: Iterable[Any], shown: Progress, asked: Request, kwargs: dict[str, Any]) -> Means:
        means, size = Means(), length(loader)
        shown.begin(self._epoch + 1, size)
        self.train_mode()
        self._begin_epoch()
        done = self._take_position(means)
        index = pending = 0
        for index, batch in enumerate(loader, start=1):
            if index <= done:
                if index == done:
                    self._restore_random("position")
                continue
            complete = index % self._accumulation == 0 or index == size
            self._learn(batch, means, size, index, complete, shown, kwargs)
            pending = 0 if complete else pending + 1
            if complete:
                self._save_within(index, means, asked)
        if pending:  # a loader without a length ended within a group
            self._descend()
        if not means.batches:
            raise TrainingError(
                f"the training loader gave no batch in epoch {self._epoch + 1}",
                hint="the data set may be smaller than a batch with drop_last, or the loader can be read only once",
            )
        if index < done:
            raise TrainingError(f"the checkpoint was written after batch {done} of an epoch, and the loader has {index}")
        return means

    def _learn(
        self, batch: Any, means: Means, size: int | None, index: int, complete: bool, shown: Progress, kwargs: dict[str, Any]
    ) -> None:
        """The gradients of one batch, and a step of the optimizer if its group of batches is complete."""
        acceleration = self._acceleration
        assert acceleration is not None
        with acceleration.autocast():
            preds = self.get_train_batch_preds(batch, **kwargs)
            losses = self.get_train_losses(preds, batch, **kwargs)
        total = total_loss(losses, "get_train_losses", needs_grad=True)
        values = floats(losses, "get_train_losses")
        # Before backward: a bad loss never reaches the weights.
        self._refuse_non_finite(values, f"training step {self._step + 1} (batch {index} of the epoch)")
        self._rate = float(self._optimizer.param_groups[0]["lr"])
        acceleration.backward(total / self._batches_together(index, size), self._network, complete=complete)
        means.add(values, batch_size(batch))
        if complete:
            self._descend()
            for name, value in values.items():
                self._log(f"train_step/{name}", value, self._step)
        shown.advance(values["total_loss"])

    def _batches_together(self, index: int, size: int | None) -> int:
        """How many batches share the step that batch `index` belongs to; the last group may be smaller."""
        if size is None:
            return self._accumulation
        first = (index - 1) // self._accumulation * self._accumulation
        return min(self._accumulation, size - first)

    def _descend(self) -> None:
        assert self._acceleration is not None
        self._acceleration.average(self._helping())
        moved = self._acceleration.step([*self._module.parameters(), *self._helping()])
        self._step += 1
        if self._averaged is not None:
            self._averaged.update_parameters(self._module)
        if self._scheduler is not None and self.scheduler_interval == "step" and moved:
            self._scheduler.step()

    def _helping(self) -> list[nn.Parameter]:
        """Parameters that are trained with the network's, and clipped together with them: those of a criterion that learns."""
        return list(self._criterion.parameters()) if isinstance(self._criterion, nn.Module) else []

    # ------------------------------------------------------------------ within an epoch

    def _take_position(self, means: Means) -> int:
        """The batches of this epoch that an interrupted training has done; their means go on."""
        if self._position is None:
            return 0
        means.restore(self._position["means"])
        return int(self._position["batches"])

    def _restore_random(self, source: str) -> None:
        """Take the random state of a checkpoint: of its epoch's begin, or (`position`) of where it was written."""
        acceleration = self._acceleration
        assert acceleration is not None
        if source == "position":
            assert self._position is not None
            states, self._position = self._position["random"], None
        else:
            states, self._random_state = self._random_state, None
        if len(states) != acceleration.processes:
            logger.warning("the checkpoint is of %d processes: the training goes on, but not bit for bit", len(states))
        else:
            _rng.restore(states[acceleration.index], device_of(self._module))

    def _save_within(self, index: int, means: Means, asked: Request) -> None:
        """Write a checkpoint within the epoch if it is time for one, or if somebody asked the training to stop."""
        assert self._acceleration is not None
        stop = self._acceleration.any_says(asked.made)
        due = self._checkpoint_steps is not None and self._step % self._checkpoint_steps == 0
        if not (stop or due):
            return
        self._save(False, {"batches": index, "means": means.state()})
        if stop:
            kept = None if self._checkpoints_folder is None else self._checkpoints_folder / _checkpoint.LAST
            raise TrainingInterrupted(
                f"asked to stop by SIGTERM after training step {self._step}, epoch {self._epoch + 1}",
                hint=f"resume to go on from `{kept}`" if kept else "give a folder for checkpoints to be able to go on",
            )

    # ------------------------------------------------------------------ after an epoch

    def evaluate(self, loader: Iterable[Any], **kwargs: Any) -> dict[str, float]:
        """Means over the samples of `loader` of the validation losses and metrics; without gradients, in eval mode.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
            TrainingError: the loader is empty.
        """
        means = Means()
        with self._validating(), torch.no_grad():
            for batch in loader:
                with nullcontext() if self._acceleration is None else self._acceleration.autocast():
                    preds = self.get_val_batch_preds(batch, **kwargs)
                    losses = self.get_val_losses(preds, batch, **kwargs)
                total_loss(losses, "get_val_losses", needs_grad=False)
                values = floats({**losses, **self.get_val_metrics(preds, batch, **kwargs)}, "get_val_losses")
                self._refuse_non_finite({name: values[name] for name in losses}, f"validation batch {means.batches + 1}")
                means.add(values, batch_size(batch))
        means.sum_over_processes(self._summed)
        if not means.batches:
            raise TrainingError("the validation loader gave no batch", hint="give a loader that can be read again every epoch")
        return means.result()

    @contextmanager
    def _validating(self) -> Iterator[None]:
        """Steps call the network that is judged, in eval mode; modes are as before afterwards."""
        network, judged = self._network, self._judged()
        modes = [(module, module.training) for module in judged.modules()]
        self._network = judged.eval()
        try:
            yield
        finally:
            self._network = network
            for module, training in modes:
                module.training = training

    def _remember_best(self, validated: dict[str, float]) -> bool:
        score = self.get_score(validated)
        if self._best is not None and score <= self._best["score"]:
            return False
        self._best = {"epoch": self._epoch, "score": score, "network": copied(self._judged().state_dict())}
        return True

    def _is_stale(self) -> bool:
        """Whether the best epoch is longer ago than the patience allows."""
        return self._patience is not None and self._best is not None and self._epoch - self._best["epoch"] >= self._patience

    def _finish(self, kwargs: dict[str, Any]) -> TrainingResult:
        best_epoch = self._epoch
        if self._best is not None:
            self._module.load_state_dict(self._best["network"])
            best_epoch = self._best["epoch"]
        elif self._averaged is not None:
            self._module.load_state_dict(self._judged().state_dict())
        if self._averaged is not None:
            self._averaged.module.load_state_dict(self._module.state_dict())
        self._module.eval()
        entry = self._history[best_epoch - 1] if self._history else {}
        prefix = "val/" if self._val_loader is not None else "train/"
        metrics = {name.removeprefix(prefix): value for name, value in entry.items() if name.startswith(prefix)}
        if self._eval_loader is not None:
            for name, value in self.evaluate(self._eval_loader, **kwargs).items():
                metrics[f"eval/{name}"] = value
                self._log(f"eval/{name}", value, best_epoch)
        return TrainingResult(self._module, self._epoch, best_epoch, metrics, [dict(entry) for entry in self._history])

    # ------------------------------------------------------------------ several processes

    def _is_main(self) -> bool:
        return self._acceleration is None or self._acceleration.is_main

    def _summed(self, values: Tensor) -> Tensor:
        return values if self._acceleration is None else self._acceleration.summed(values)

    def _log(self, tag: str, value: float, step: int) -> None:
        if self._tbx_writer is not None and self._is_main():
            self._tbx_writer.add_scalar(tag, value, step)

    # ------------------------------------------------------------------ what is not finite

    def _refuse_non_finite(self, values: Mapping[str, float], where: str) -> None:
        if what := not_finite(values):
            self._fail(f"{what} in {where}, epoch {self._epoch + 1}")

    def _refuse_bad_weights(self) -> None:
        # Without this a last step that overflows would end up in the checkpoint.
        if name := bad_weight(self._module):
            self._fail(f"the weights `{name}` are not finite after training step {self._step}, epoch {self._epoch + 1}")

    def _fail(self, message: str) -> None:
        rate = self._optimizer.param_groups[0]["lr"]
        path = None if self._checkpoints_folder is None else self._checkpoints_folder / _checkpoint.LAST
        kept = f"; the checkpoint of epoch {self._epoch} is kept: {path}" if path and self._epoch else ""
        raise NonFiniteLossError(
            f"{message}{kept}",
            hint=f"lower the learning rate (it is {float(rate):g}) or warm it up; check the inputs for NaN and the labels",
        )
