"""The contract of a trainer: `Trainer` and `TrainingResult`. This module is its reference page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amc_plugins.core.runs import Run

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Run", "Trainer", "TrainingResult"]


@dataclass
class TrainingResult:
    """What training left. `network` holds the best epoch's weights when a validation loader was given, else the last's."""

    network: nn.Module
    epochs: int
    """Epochs run in all, earlier runs of a resumed training included."""
    best_epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the best epoch."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry an epoch: losses, metrics, learning rate."""


class Trainer(ABC):
    """Retrains a network. Settings in, result out; no logic in the constructor."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def fit(
        self,
        network: nn.Module,
        train: Iterable[Any],
        validation: Iterable[Any] | None = None,
        *,
        seed: int = 0,
        teacher: nn.Module | None = None,
        run: Run | None = None,
        resume: bool = False,
    ) -> TrainingResult:
        """Train a copy of `network` (the given one is not changed).

        Args:
            network: a `ReconstructedNetwork` or any module.
            train: an iterable of `(input, label)` batches.
            validation: the same; chooses the best epoch. Never give the test set.
            seed: all randomness of this training.
            teacher: the network to learn from; trainers that do not distil refuse one.
            run: its folder holds checkpoints, and it is told about epochs.
            resume: go on from the newest checkpoint in the run's folder, if there is one.
        """
