"""Whether the parts of a training fit together, and whether its numbers are still numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from amc_training._errors import TrainingError
from amc_training._values import length

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["bad_weight", "check_loaders", "check_optimizer", "check_options", "check_scheduler", "check_shared", "not_finite"]


def check_scheduler(scheduler: Any, interval: str, *, validates: bool) -> None:
    """Refuse an unknown interval, and `ReduceLROnPlateau` without a validation loss or more often than one is there."""
    if interval not in {"epoch", "step"}:
        raise TrainingError(f"`scheduler_interval` is {interval!r}, not 'epoch' or 'step'")
    if isinstance(scheduler, ReduceLROnPlateau):
        if not validates:
            raise TrainingError("ReduceLROnPlateau needs a validation loss", hint="give val_loader, or another scheduler")
        if interval == "step":
            raise TrainingError("ReduceLROnPlateau works once an epoch, and `scheduler_interval` is 'step'")


def check_options(
    mixed_precision: str,
    accumulation: int,
    clip_norm: float | None,
    ema_decay: float | None,
    patience: int | None,
    checkpoint_steps: int | None,
    val_loader: Any,
) -> None:
    """Refuse options of the loop that mean nothing."""
    if mixed_precision not in {"no", "bf16", "fp16"}:
        raise TrainingError(f"`mixed_precision` is {mixed_precision!r}, not 'no', 'bf16' or 'fp16'")
    for name, count in {"accumulation": accumulation, "patience": patience, "checkpoint_steps": checkpoint_steps}.items():
        if count is not None and count < 1:
            raise TrainingError(f"`{name}` is {count}; it counts from 1")
    if clip_norm is not None and not clip_norm > 0:
        raise TrainingError(f"`clip_norm` is {clip_norm:g}; a largest norm is above 0")
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise TrainingError(f"`ema_decay` is {ema_decay:g}, not between 0 and 1")
    if patience is not None and val_loader is None:
        raise TrainingError("`patience` waits for a better epoch on the validation set", hint="give val_loader")


def check_loaders(epochs: int, loaders: dict[str, Any]) -> None:
    """Refuse no epoch, and loaders that are empty after the first epoch."""
    if epochs < 1:
        raise TrainingError(f"`epochs` is {epochs}; a training has at least 1")
    for name, loader in loaders.items():
        if epochs > 1 and isinstance(loader, Iterator):
            raise TrainingError(
                f"`{name}` is a {type(loader).__name__}, which can be read only once, and there are {epochs} epochs",
                hint="give an iterable that starts again, for example a DataLoader or a list of batches",
            )


def check_shared(loader: Any, accumulation: int) -> None:
    """Refuse accumulation over a loader without a length in several processes: where its last group ends is known too late for
    them to exchange its gradients."""
    if accumulation > 1 and length(loader) is None:
        raise TrainingError(
            f"`accumulation` = {accumulation} in several processes needs to know how many batches `train_loader` has, "
            "and it has no length",
            hint="give a data set with a length, or accumulation=1",
        )


def check_optimizer(optimizer: Optimizer, network: nn.Module) -> None:
    """Refuse an optimizer of another network."""
    own = {id(parameter) for parameter in network.parameters()}
    if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise TrainingError(
            "the optimizer has no parameter of the network, so nothing would be trained",
            hint="make the optimizer from the parameters of the very network that is given to the trainer",
        )


def not_finite(values: Mapping[str, float]) -> str:
    """Which of the values are NaN or infinite, in words; empty if none is."""
    return ", ".join(f"`{name}` is {value}" for name, value in values.items() if not math.isfinite(value))


def bad_weight(network: nn.Module) -> str:
    """The name of a trained parameter with a NaN or an infinity; empty if there is none."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            return name
    return ""
