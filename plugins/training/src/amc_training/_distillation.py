"""The trainer `distillation`: retrains a compressed network on labels and on what the original makes of the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from amc_plugins.plugin import SettingsError
from amc_training._distiller import Distilling, Terms
from amc_training._features import last_features
from amc_training._fitting import Batches, LabelledLoop, LabelledTrainer
from amc_training._rng import peek
from amc_training._values import device_of, inputs_of

if TYPE_CHECKING:
    from torch import nn

    from amc_training._settings import DistillationSettings

__all__ = ["DistillationTrainer"]


class DistillationTrainer(LabelledTrainer):
    """Trains on labels and on a teacher: class probabilities, hints and attention maps, each with a weight.

    The maps of hints start from the least squares over the first training batches.
    """

    name = "distillation"
    settings: DistillationSettings

    def check_teacher(self, teacher: nn.Module | None) -> None:
        if teacher is None:
            raise SettingsError(
                "`distillation` learns from a teacher and was given none",
                hint="teacher=original, `--teacher original.pkl`, or `teacher = true` in a recipe",
            )

    def loop(self, network: nn.Module, batches: Batches, teacher: nn.Module | None) -> LabelledLoop:
        assert teacher is not None
        settings = self.settings
        device = torch.device(settings.device) if settings.device else device_of(network)
        hints = last_features(teacher, network) if settings.hint_layers is None else settings.hint_layers
        hints = hints if settings.hint_weight else []
        attention = settings.attention_layers if settings.attention_weight else []
        alone = not hints and not attention
        terms = Terms(
            network.to(device),
            teacher.to(device),
            logits=float(alone) if settings.logits_weight is None else settings.logits_weight,
            temperature=settings.temperature,
            hints=hints,
            hint_weight=settings.hint_weight,
            attention=attention,
            attention_weight=settings.attention_weight,
            inputs=[inputs_of(batch, device) for batch in peek(batches.train, settings.calibration_batches)] if hints else [],
        )
        return _DistillationLoop(network, settings, batches, teacher, terms)


class _DistillationLoop(Distilling, LabelledLoop):
    name = "distillation"

    def __init__(
        self, network: nn.Module, settings: DistillationSettings, batches: Batches, teacher: nn.Module, terms: Terms
    ) -> None:
        LabelledLoop.__init__(self, network, settings, batches, helper=terms)
        self._learn_from(teacher, terms, settings.label_weight)
