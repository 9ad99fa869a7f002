"""`BaseTrainer`: a fixed training loop whose steps a subclass overrides. This module is its reference page."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from amc_plugins.training import TrainingResult
from amc_training import _checkpoint, _rng
from amc_training._acceleration import Acceleration, borrowed
from amc_training._checks import check_loaders, check_optimizer, check_options, check_scheduler, check_shared
from amc_training._errors import CheckpointError
from amc_training._interrupt import terminations
from amc_training._loop import Loop
from amc_training._progress import progress
from amc_training._values import device_of

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

__all__ = ["BaseTrainer"]

logger = logging.getLogger(__name__)


class BaseTrainer(Loop):
    """Trains a network: the loop is fixed, five steps may be overridden.

    The steps are `get_train_batch_preds`, `get_train_losses`, `get_val_batch_preds`, `get_val_losses` and
    `if_stop_training`; each may be spelled with the dunders of the original system too (`__get_train_losses__`,
    `__if_stop_trainning__`, ...). The keywords of `run` reach every step. Each epoch trains, validates (without gradients,
    in eval mode), moves the learning rate, writes a checkpoint, and asks whether to stop. The network of the best epoch on
    `val_loader` is what is left in the end.

    Devices, precision and processes are accelerate's: a program started with `accelerate launch` or `torchrun` trains in all
    its processes, each on its part of the batches of a `DataLoader`; figures are over all of them, the first writes the files.
    SIGTERM stops after the step that is under way, with a checkpoint from which `resume` goes on within the epoch.

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
        mixed_precision: `"no"`, `"bf16"` or `"fp16"` (accelerators only; with loss scaling).
        accumulation: batches whose gradients make one step together; their mean, also in a last, smaller group.
        clip_norm: the largest norm of all gradients together; larger ones are scaled down.
        ema_decay: validate and keep a running average of the weights, `average = decay * average + (1 - decay) * weights` after
            every step (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).
        patience: stop after so many epochs without a better one on `val_loader`.
        checkpoint_steps: write `last.pt` within epochs too, every so many steps.

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
        mixed_precision: Literal["no", "bf16", "fp16"] = "no",
        accumulation: int = 1,
        clip_norm: float | None = None,
        ema_decay: float | None = None,
        patience: int | None = None,
        checkpoint_steps: int | None = None,
    ) -> None:
        self._device = None if device is None else torch.device(device)
        self._network = self._module = network if self._device is None else network.to(self._device)
        self._criterion = criterion.to(self._device) if self._device and isinstance(criterion, nn.Module) else criterion
        self._train_loader, self._val_loader, self._eval_loader = train_loader, val_loader, eval_loader
        self._optimizer, self._scheduler, self._epochs = optimizer, scheduler, epochs
        self._tbx_writer, self._additional_args, self._seed = tbx_writer, additional_args, seed
        self._checkpoints_folder = None if checkpoints_folder is None else Path(checkpoints_folder)
        if scheduler_interval is not None:
            self.scheduler_interval = scheduler_interval
        self._mixed_precision, self._accumulation, self._clip_norm = mixed_precision, accumulation, clip_norm
        self._patience, self._checkpoint_steps = patience, checkpoint_steps
        self._epoch = 0
        self._step = 0
        self._rate = 0.0
        self._history = []
        self._best = self._begun = self._position = self._random_state = None
        self._stopped = self._checked = False
        self._acceleration: Acceleration | None = None
        check_options(mixed_precision, accumulation, clip_norm, ema_decay, patience, checkpoint_steps, val_loader)
        check_loaders(epochs, {"train_loader": train_loader, "val_loader": val_loader})
        check_scheduler(scheduler, self.scheduler_interval, validates=val_loader is not None)
        check_optimizer(optimizer, network)
        self._averaged = None
        if ema_decay is not None:
            self._averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)

    # ------------------------------------------------------------------ running

    def run(self, **kwargs: Any) -> TrainingResult:
        """Train to the end; the keywords are handed to every step.

        Raises:
            NonFiniteLossError: a loss or a weight is NaN or infinite; the message names the step.
            TrainingInterrupted: SIGTERM came.
            TrainingError: a loader is empty, a step returned something else than losses, or the device cannot do it.
        """
        with borrowed(device_of(self._module), self._mixed_precision, self._clip_norm) as acceleration:
            self._acceleration = acceleration
            try:
                return self._run(acceleration, kwargs)
            finally:
                self._acceleration = None

    def _run(self, acceleration: Acceleration, kwargs: dict[str, Any]) -> TrainingResult:
        if acceleration.processes > 1:
            check_shared(self._train_loader, self._accumulation)
            self._move(acceleration.device)
        device = device_of(self._module)
        seed = None if self._seed is None else self._seed + acceleration.index
        self._network = acceleration.prepare(self._module, self._optimizer)
        self._optimizer.zero_grad(set_to_none=True)
        try:
            train = acceleration.shared(self._train_loader, "train_loader", even=True)
            val = None if self._val_loader is None else acceleration.shared(self._val_loader, "val_loader", even=False)
            with _rng.isolated(seed, device), progress(self._epochs, self._epoch) as shown, terminations() as asked:
                if self._random_state is not None:
                    self._restore_random("epoch")
                while self._epoch < self._epochs and not self._stopped:
                    self._run_epoch(train, val, shown, asked, kwargs)
                acceleration.wait()
                return self._finish(kwargs)
        finally:
            acceleration.release(self._network)
            self._network = self._module

    def _move(self, device: torch.device) -> None:
        """To the device of this process."""
        self._device = device
        self._module.to(device)
        if self._averaged is not None:
            self._averaged.to(device)
        if isinstance(self._criterion, nn.Module):
            self._criterion.to(device)

    def __run__(self, **kwargs: Any) -> TrainingResult:
        """`run`, as the original system spells it."""
        return self.run(**kwargs)

    def resume(self, path: str | os.PathLike[str] | None = None) -> bool:
        """Take the state of a checkpoint, so that `run` goes on exactly as if it had never stopped.

        Exact means the same bits on one CPU process and the same number of threads, with loaders whose order depends on the
        global generators or on generators of their own (persistent workers have a state that nobody can save). Of an epoch that
        was under way, the batches that were done are loaded again and left out.

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
