"""What can go wrong in a training."""

from __future__ import annotations

from amc_plugins.plugin import AmcError

__all__ = ["CheckpointError", "NonFiniteLossError", "TrainingError", "TrainingInterrupted"]


class TrainingError(AmcError):
    """A trainer was put together wrongly, or one of its steps broke its contract."""


class NonFiniteLossError(TrainingError):
    """A loss or a weight is NaN or infinite; names the step. The last good checkpoint is kept."""

    exit_code = 1


class CheckpointError(TrainingError):
    """A checkpoint cannot be written, read, or does not belong to this training."""


class TrainingInterrupted(TrainingError):  # noqa: N818 - nothing is wrong: somebody asked
    """SIGTERM asked the training to stop; a checkpoint was written, if there is a folder for it."""

    exit_code = 130
