"""Losses, each with the paper it is from. Importing this module imports torch."""

from __future__ import annotations

from amc_training._losses import (
    AttentionTransfer,
    DiceLoss,
    FocalLoss,
    Hint,
    LogitDistillation,
    bin_distance,
    kurtosis_distance,
)

__all__ = ["AttentionTransfer", "DiceLoss", "FocalLoss", "Hint", "LogitDistillation", "bin_distance", "kurtosis_distance"]
