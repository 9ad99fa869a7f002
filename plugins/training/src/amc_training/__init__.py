"""Training of networks: `BaseTrainer`, the loop with overridable steps, and trainers on it. Names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_training._base import BaseTrainer
    from amc_training._distillation import DistillationTrainer
    from amc_training._distiller import BaseDistiller, Terms
    from amc_training._errors import CheckpointError, NonFiniteLossError, TrainingError, TrainingInterrupted
    from amc_training._quantization import QuantizationTrainer
    from amc_training._supervised import SupervisedTrainer

__all__ = [
    "BaseDistiller",
    "BaseTrainer",
    "CheckpointError",
    "DistillationTrainer",
    "NonFiniteLossError",
    "QuantizationTrainer",
    "SupervisedTrainer",
    "Terms",
    "TrainingError",
    "TrainingInterrupted",
]

__version__ = "0.1.0"

_HOMES = {
    "BaseDistiller": "amc_training._distiller",
    "BaseTrainer": "amc_training._base",
    "CheckpointError": "amc_training._errors",
    "DistillationTrainer": "amc_training._distillation",
    "NonFiniteLossError": "amc_training._errors",
    "QuantizationTrainer": "amc_training._quantization",
    "SupervisedTrainer": "amc_training._supervised",
    "Terms": "amc_training._distiller",
    "TrainingError": "amc_training._errors",
    "TrainingInterrupted": "amc_training._errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
