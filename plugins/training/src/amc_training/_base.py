"""`BaseTrainer`: a fixed training loop whose steps a subclass overrides. This module is its reference page."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from amc_plugins.training import TrainingResult
from amc_training import _checkpoint, _rng
from amc_training._checks import bad_weight, check_loaders, check_optimizer, check_scheduler, not_finite
from amc_training._errors import CheckpointError, NonFiniteLossError, TrainingError
from amc_training._progress import Progress, progress
from amc_training._steps import Steps
from amc_training._values import Means, batch_size, device_of, floats, total_loss

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["BaseTrainer"]

logger = logging.getLogger(__name__)


class BaseTrainer(Steps):
    """Trains a network: the loop is fixed, five steps may be overridden.

    The steps are `get_train_batch_preds`, `get_train_losses`, `get_val_batch_preds`, `get_val_losses` and
    `if_stop_training`; each may be spelled with the dunders of the original system too (`__get_train_losses__`,
    `__if_stop_trainning__`, ...). The keywords of `run` reach every step. Each epoch trains, validates (without gradients,
    in eval mode), moves the learning rate, writes a checkpoint, and asks whether to stop. The network of the best epoch on
    `val_loader` is what is left in the end.

    Attributes for subclasses: `_network`, `_criterion`, `_optimizer`, `_scheduler`, `_device`, `_train_loader`, `_val_loader`,
    `_eval_loader`, `_epochs`, `_tbx_writer`, `_checkpoints_folder`, `_additional_args` as given; `_epoch` (epochs done),
    `_step` (optimizer steps done), `_history`.

    The global random state is as before when `run` ends; inside it starts from `seed`, or from where the program left it.

    Args:
        train_loader: an iterable of batches, new for every epoch.
        val_loader: the same; chooses the best epoch. None: the last epoch is kept.
        eval_loader: the same; scored once, after the training, with the best network. It chooses nothing.
        network: trained in place, and moved to `device`.
        criterion: what `get_*_losses` calls with predictions and labels; an `nn.Module` is moved to `device` too.
        optimizer: over the network's parameters.
        scheduler: stepped once an epoch, or after every optimizer step (`scheduler_interval`); `ReduceLROnPlateau` gets the
            validation `total_loss`, each epoch.
        epochs: epochs in all, those before a `resume` included.
        device: where to train; None leaves the network where it is, and batches as they come.
        tbx_writer: anything with `add_scalar(tag, value, step)`; gets every loss of every step and the means of every epoch.
        checkpoints_folder: `last.pt` (to go on from) and `best.pt` (the best network's state) are written here; None: no
            checkpoints.
        additional_args: kept as `_additional_args`, for the steps.
        scheduler_interval: `"epoch"` or `"step"`; not given, the class attribute of the same name.
        seed: of the global generators inside `run`.

    Raises:
        TrainingError: the parts do not fit together.
    """

    scheduler_interval: Literal["epoch", "step"] = "epoch"
    _epoch_level = logging.INFO

    def __init__(
        self,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None,
        eval_loader: Iterable[Any] | None,
        network: nn.Module,
        criterion: Any,
        optimizer: Optimizer,
        scheduler: LRScheduler | ReduceLROnPlateau | None,
        epochs: int,
        device: torch.device | str | None = None,
        tbx_writer: Any = None,
        checkpoints_folder: str | os.PathLike[str] | None = None,
        additional_args: Any = None,
        *,
        scheduler_interval: Literal["epoch", "step"] | None = None,
        seed: int | None = None,
    ) -> None:
        self._device = None if device is None else torch.device(device)
        self._network = network if self._device is None else network.to(self._device)
        self._criterion = criterion.to(self._device) if self._device and isinstance(criterion, nn.Module) else criterion
        self._train_loader, self._val_loader, self._eval_loader = train_loader, val_loader, eval_loader
        self._optimizer, self._scheduler, self._epochs = optimizer, scheduler, epochs
        self._tbx_writer, self._additional_args, self._seed = tbx_writer, additional_args, seed
        self._checkpoints_folder = None if checkpoints_folder is None else Path(checkpoints_folder)
        if scheduler_interval is not None:
            self.scheduler_interval = scheduler_interval
        self._epoch = 0
        self._step = 0
        self._rate = 0.0
        self._history: list[dict[str, float]] = []
        self._best: dict[str, Any] | None = None
        self._stopped = False
        self._checked = False
        self._random_state: dict[str, Any] | None = None
        check_loaders(epochs, {"train_loader": train_loader, "val_loader": val_loader})
        check_scheduler(scheduler, self.scheduler_interval, validates=val_loader is not None)
        check_optimizer(optimizer, network)

    # ------------------------------------------------------------------ running

    def run(self, **kwargs: Any) -> TrainingResult:
        """Train to the end; the keywords are handed to every step.

        Raises:
            NonFiniteLossError: a loss or a weight is NaN or infinite; the message names the step.
            TrainingError: a loader is empty, or a step returned something else than losses.
        """
        device = device_of(self._network)
        with _rng.isolated(self._seed, device), progress(self._epochs, self._epoch) as shown:
            if self._random_state is not None:
                _rng.restore(self._random_state, device)
                self._random_state = None
            while self._epoch < self._epochs and not self._stopped:
                self._run_epoch(shown, kwargs)
            return self._finish(kwargs)

    def __run__(self, **kwargs: Any) -> TrainingResult:
        """`run`, as the original system spells it."""
        return self.run(**kwargs)

    def evaluate(self, loader: Iterable[Any], **kwargs: Any) -> dict[str, float]:
        """Means over the samples of `loader` of the validation losses and metrics; without gradients, in eval mode.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
            TrainingError: the loader is empty.
        """
        modes = [(module, module.training) for module in self._network.modules()]
        means = Means()
        self._network.eval()
        try:
            with torch.no_grad():
                for batch in loader:
                    preds = self.get_val_batch_preds(batch, **kwargs)
                    losses = self.get_val_losses(preds, batch, **kwargs)
                    total_loss(losses, "get_val_losses", needs_grad=False)
                    values = floats({**losses, **self.get_val_metrics(preds, batch, **kwargs)}, "get_val_losses")
                    self._refuse_non_finite({name: values[name] for name in losses}, f"validation batch {means.batches + 1}")
                    means.add(values, batch_size(batch))
        finally:
            for module, training in modes:
                module.training = training
        if not means.batches:
            raise TrainingError("the validation loader gave no batch", hint="give a loader that can be read again every epoch")
        return means.result()

    def resume(self, path: str | os.PathLike[str] | None = None) -> bool:
        """Take the state of a checkpoint, so that `run` goes on after its epoch exactly as if it had never stopped.

        Exact means the same bits on one CPU process and the same number of threads, with loaders whose order depends on the
        global generators or on generators of their own (persistent workers have a state that nobody can save).

        Args:
            path: the checkpoint; not given, `last.pt` of the checkpoints folder, if there is one.

        Returns:
            whether there was a checkpoint.

        Raises:
            CheckpointError: the file cannot be read, or belongs to another network, optimizer or scheduler.
        """
        if path is None:
            if self._checkpoints_folder is None:
                raise CheckpointError("there is nothing to resume from: no checkpoints_folder was given")
            path = self._checkpoints_folder / _checkpoint.LAST
            if not path.exists():
                return False
        self._load(Path(path))
        logger.info("resumed from %s after epoch %d", path, self._epoch)
        return True

    # ------------------------------------------------------------------ one epoch

    def _run_epoch(self, shown: Progress, kwargs: dict[str, Any]) -> None:
        started = time.perf_counter()
        trained = self._train(shown, kwargs)
        seconds = time.perf_counter() - started
        entry = {f"train/{name}": value for name, value in trained.result().items()}
        entry["learning_rate"] = self._rate
        validated = None if self._val_loader is None else self.evaluate(self._val_loader, **kwargs)
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
        for name, value in entry.items():
            self._log(name, value, self._epoch)
        self._log("throughput/samples_per_second", trained.samples / max(seconds, 1e-9), self._epoch)
        self._stopped = bool(self.if_stop_training(**kwargs))
        self._save(improved)
        text = ", ".join(f"{name} {value:.4g}" for name, value in entry.items())
        logger.log(self._epoch_level, "epoch %d of %d: %s", self._epoch, self._epochs, text)
        shown.note(text)
        self.epoch_ended(self._epoch, entry)

    def _train(self, shown: Progress, kwargs: dict[str, Any]) -> Means:
        loader, means = self._train_loader, Means()
        shown.begin(self._epoch + 1, len(loader) if isinstance(loader, Sized) else None)
        self.train_mode()
        for batch in loader:
            preds = self.get_train_batch_preds(batch, **kwargs)
            losses = self.get_train_losses(preds, batch, **kwargs)
            total = total_loss(losses, "get_train_losses", needs_grad=True)
            values = floats(losses, "get_train_losses")
            # Before backward: a bad loss never reaches the weights.
            self._refuse_non_finite(values, f"training step {self._step + 1} (batch {means.batches + 1} of the epoch)")
            self._rate = float(self._optimizer.param_groups[0]["lr"])
            self._descend(total)
            self._step += 1
            if self._scheduler is not None and self.scheduler_interval == "step":
                self._scheduler.step()
            means.add(values, batch_size(batch))
            for name, value in values.items():
                self._log(f"train_step/{name}", value, self._step)
            shown.advance(values["total_loss"])
        if not means.batches:
            raise TrainingError(
                f"the training loader gave no batch in epoch {self._epoch + 1}",
                hint="the data set may be smaller than a batch with drop_last, or the loader can be read only once",
            )
        return means

    def _descend(self, total: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._optimizer.step()

    def _remember_best(self, validated: dict[str, float]) -> bool:
        score = self.get_score(validated)
        if self._best is not None and score <= self._best["score"]:
            return False
        self._best = {"epoch": self._epoch, "score": score, "network": _copied(self._network.state_dict())}
        return True

    def _finish(self, kwargs: dict[str, Any]) -> TrainingResult:
        best_epoch = self._epoch
        if self._best is not None:
            self._network.load_state_dict(self._best["network"])
            best_epoch = self._best["epoch"]
        self._network.eval()
        entry = self._history[best_epoch - 1] if self._history else {}
        prefix = "val/" if self._val_loader is not None else "train/"
        metrics = {name.removeprefix(prefix): value for name, value in entry.items() if name.startswith(prefix)}
        if self._eval_loader is not None:
            for name, value in self.evaluate(self._eval_loader, **kwargs).items():
                metrics[f"eval/{name}"] = value
                self._log(f"eval/{name}", value, best_epoch)
        return TrainingResult(self._network, self._epoch, best_epoch, metrics, [dict(entry) for entry in self._history])

    def _log(self, tag: str, value: float, step: int) -> None:
        if self._tbx_writer is not None:
            self._tbx_writer.add_scalar(tag, value, step)

    # ------------------------------------------------------------------ what is not finite

    def _refuse_non_finite(self, values: Mapping[str, float], where: str) -> None:
        if what := not_finite(values):
            self._fail(f"{what} in {where}, epoch {self._epoch + 1}")

    def _refuse_bad_weights(self) -> None:
        # Without this a last step that overflows would end up in the checkpoint.
        if name := bad_weight(self._network):
            self._fail(f"the weights `{name}` are not finite after training step {self._step}, epoch {self._epoch + 1}")

    def _fail(self, message: str) -> None:
        rate = self._optimizer.param_groups[0]["lr"]
        path = None if self._checkpoints_folder is None else self._checkpoints_folder / _checkpoint.LAST
        kept = f"; the checkpoint of epoch {self._epoch} is kept: {path}" if path and self._epoch else ""
        raise NonFiniteLossError(
            f"{message}{kept}",
            hint=f"lower the learning rate (it is {float(rate):g}) or warm it up; check the inputs for NaN and the labels",
        )

    # ------------------------------------------------------------------ checkpoints

    def _save(self, improved: bool) -> None:
        if self._checkpoints_folder is None:
            return
        best = self._best
        if best is not None and best["epoch"] == self._epoch:
            best = {**best, "network": None}  # the same tensors as `network` below
        criterion = self._criterion.state_dict() if isinstance(self._criterion, nn.Module) else {}
        content = {
            "format": _checkpoint.FORMAT,
            "epoch": self._epoch,
            "step": self._step,
            "stopped": self._stopped,
            "network": self._network.state_dict(),
            "criterion": criterion,
            "optimizer": self._optimizer.state_dict(),
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
            "best": best,
            "history": self._history,
            "random": _rng.state(device_of(self._network)),
            "loaders": [generator.get_state() for generator in self._loader_generators()],
            "extra": self.extra_state(),
        }
        _checkpoint.write(self._checkpoints_folder / _checkpoint.LAST, content, check=not self._checked)
        self._checked = True  # what cannot be read back shows in the first one
        if improved:
            best_only = {"format": _checkpoint.FORMAT, "epoch": self._epoch, "network": content["network"]}
            _checkpoint.write(self._checkpoints_folder / _checkpoint.BEST, best_only)

    def _load(self, path: Path) -> None:
        content = _checkpoint.read(path)
        generators = self._loader_generators()
        self.load_extra_state(content["extra"])  # first, because a subclass may refuse it
        try:
            if len(generators) != len(content["loaders"]):
                raise ValueError(
                    f"it has {len(content['loaders'])} generators of loaders, the loaders given have {len(generators)}"
                )
            if (content["scheduler"] is None) != (self._scheduler is None):
                raise ValueError("it was written " + ("without" if self._scheduler else "with") + " a scheduler")
            self._network.load_state_dict(content["network"])
            if isinstance(self._criterion, nn.Module):
                self._criterion.load_state_dict(content["criterion"])
            self._optimizer.load_state_dict(content["optimizer"])
            if self._scheduler is not None:
                self._scheduler.load_state_dict(content["scheduler"])
            for generator, state in zip(generators, content["loaders"], strict=True):
                generator.set_state(state)
            self._epoch, self._step, self._stopped = content["epoch"], content["step"], content["stopped"]
            self._history, self._random_state = content["history"], content["random"]
            self._best = content["best"]
            if self._best is not None and self._best["network"] is None:
                self._best["network"] = content["network"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint `{path}` does not belong to this training: {error}",
                hint="resume with the network, optimizer and scheduler that it was written with, or start afresh",
            ) from error

    def _loader_generators(self) -> list[torch.Generator]:
        return _rng.loader_generators(loader for loader in (self._train_loader, self._val_loader) if loader is not None)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in state.items()}
