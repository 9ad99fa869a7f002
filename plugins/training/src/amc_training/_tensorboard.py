"""The observer `tensorboard`: scalars of a run, written with tensorboardX."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from amc_plugins.plugin import hookimpl
from amc_training.plugin import TensorboardSettings

__all__ = ["TensorboardObserver"]

logger = logging.getLogger(__name__)


class RunLike(Protocol):
    """What of a run this observer uses."""

    @property
    def folder(self) -> Path | None:
        """Where files go, or None."""


class TensorboardObserver:
    """Writes scalars to `<run's folder>/tensorboard`; nothing for a run without a folder, unless `folder` is absolute.

    Tags: those of the trainer's metrics by epoch (`train/total_loss`, `val/accuracy`, `learning_rate`, ...), from the second
    training of a run on under `training_2/`, `training_3/`, ...; `candidate/<objective>` by candidate; `layer_error/<layer>`,
    where there is one, and `layer_macs/<layer>`.
    """

    def __init__(self, settings: TensorboardSettings | None = None) -> None:
        self._settings = settings or TensorboardSettings()
        self._writer: Any = None
        self._epoch = 0
        self._training = 1
        self._candidates = 0
        self._layers: dict[str, int] = {}

    @hookimpl
    def amc_run_started(self, run: RunLike) -> None:
        """Open the event file."""
        folder = Path(self._settings.folder)
        if not folder.is_absolute():
            if run.folder is None:
                logger.info("the run has no folder, so no tensorboard events are written")
                return
            folder = run.folder / folder
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(logdir=str(folder), flush_secs=self._settings.flush_seconds)

    @hookimpl
    def amc_epoch_ended(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Every metric of the epoch."""
        if epoch <= self._epoch:  # a run may train several times
            self._training += 1
        self._epoch = epoch
        prefix = "" if self._training == 1 else f"training_{self._training}/"
        for name, value in metrics.items():
            self._scalar(f"{prefix}{name}", value, epoch)

    @hookimpl
    def amc_layer_compressed(self, layer: str, error: float, macs: int) -> None:
        """Relative response error and MACs, by how often the layer was compressed."""
        times = self._layers[layer] = self._layers.get(layer, 0) + 1
        if math.isfinite(error):  # a layer that only lost outputs was not fitted: it has none
            self._scalar(f"layer_error/{layer}", error, times)
        self._scalar(f"layer_macs/{layer}", macs, times)

    @hookimpl
    def amc_candidate_scored(self, objectives: Mapping[str, float]) -> None:
        """Every objective of a candidate, by the number of the candidate."""
        self._candidates += 1
        for name, value in objectives.items():
            self._scalar(f"candidate/{name}", value, self._candidates)

    @hookimpl
    def amc_run_ended(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _scalar(self, tag: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, float(value), step)
