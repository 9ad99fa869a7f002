"""The trainer `distillation`: retrains a compressed network on labels and on what the original makes of the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_plugins.graph import ReconstructedNetwork
from amc_plugins.plugin import SettingsError
from amc_training._distiller import Distilling, Terms
from amc_training._fitting import Batches, LabelledLoop, LabelledTrainer

if TYPE_CHECKING:
    from torch import nn

    from amc_training._settings import DistillationSettings

__all__ = ["DistillationTrainer"]


class DistillationTrainer(LabelledTrainer):
    """Trains on labels and on a teacher: class probabilities, hints and attention maps, each with a weight."""

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
        terms = Terms(
            network,
            teacher,
            logits=settings.logits_weight,
            temperature=settings.temperature,
            hints=settings.hint_layers,
            hint_weight=settings.hint_weight,
            attention=settings.attention_layers,
            attention_weight=settings.attention_weight,
            inputs=_example(teacher) if settings.hint_layers else (),
        )
        return _DistillationLoop(network, settings, batches, teacher, terms)


class _DistillationLoop(Distilling, LabelledLoop):
    name = "distillation"

    def __init__(
        self, network: nn.Module, settings: DistillationSettings, batches: Batches, teacher: nn.Module, terms: Terms
    ) -> None:
        LabelledLoop.__init__(self, network, settings, batches, helper=terms)
        self._learn_from(teacher, terms, settings.label_weight)


def _example(teacher: nn.Module) -> tuple[Any, ...]:
    if not isinstance(teacher, ReconstructedNetwork):
        raise SettingsError(
            f"hints need a captured teacher, given was a {type(teacher).__name__}",
            hint="teacher = amc.capture(model, example_input)",
        )
    return teacher.example_inputs(batch=2)
