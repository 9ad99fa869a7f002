"""Optimizers and learning-rate schedules from settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from amc_training._errors import TrainingError

if TYPE_CHECKING:
    from amc_training._settings import LabelledSettings

__all__ = ["build_optimizer", "build_scheduler", "rate_factor"]


def build_optimizer(network: nn.Module, settings: LabelledSettings) -> optim.Optimizer:
    """The optimizer over the parameters that need a gradient.

    One-dimensional parameters (biases, normalisation, PReLU slopes) are not decayed (He et al., CVPR 2019, section 3.1).

    Raises:
        TrainingError: no parameter needs a gradient.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise TrainingError("no parameter of the network needs a gradient", hint="set requires_grad on what is to be trained")
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0)
    kind = optim.Adam if settings.optimizer == "adam" else optim.AdamW
    return kind(groups, lr=settings.learning_rate)


def build_scheduler(
    optimizer: optim.Optimizer, settings: LabelledSettings, steps_per_epoch: int | None
) -> tuple[LRScheduler | ReduceLROnPlateau, Literal["epoch", "step"]]:
    """The schedule and how often it moves: every step if an epoch's length is known, else every epoch."""
    if settings.schedule == "plateau":
        return ReduceLROnPlateau(optimizer, factor=settings.decay, patience=settings.plateau_patience), "epoch"
    per_epoch = steps_per_epoch or 1
    half_a_move = 0.5 / per_epoch  # the rate of a stretch is the schedule's at its middle: never 0, no step is lost

    def factor(moves: int) -> float:
        return rate_factor(settings, moves / per_epoch + half_a_move)

    return LambdaLR(optimizer, factor), "step" if steps_per_epoch else "epoch"


def rate_factor(settings: LabelledSettings, epochs: float) -> float:
    """The learning rate as a share of the highest after `epochs` (with fractions) of `settings.epochs`.

    A linear warm-up (Goyal et al. 2017, section 2.2), then a cosine to 0 without restarts (Loshchilov and Hutter, ICLR
    2017, eq. 5), steps at 1/2 and 3/4 of the epochs (He et al., CVPR 2016, section 4.2), or nothing.
    """
    if epochs < settings.warmup:
        return epochs / settings.warmup
    if settings.schedule == "step":
        done = epochs / settings.epochs
        return settings.decay ** ((done >= 0.5) + (done >= 0.75))
    if settings.schedule == "cosine" and settings.epochs > settings.warmup:
        done = min((epochs - settings.warmup) / (settings.epochs - settings.warmup), 1.0)
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0
