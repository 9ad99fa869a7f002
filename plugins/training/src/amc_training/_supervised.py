"""The trainer `supervised`: retrains a network on labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amc_training._fitting import Batches, LabelledLoop, LabelledTrainer
from amc_training._losses import kurtosis_distance
from amc_training._tasks import decayed

if TYPE_CHECKING:
    from torch import nn

    from amc_training._settings import SupervisedSettings

__all__ = ["SupervisedTrainer"]


class SupervisedTrainer(LabelledTrainer):
    """Trains on `(input, label)` batches: classes, classes per pixel, several labels, or numbers, by choice of `loss`."""

    name = "supervised"
    settings: SupervisedSettings

    def loop(self, network: nn.Module, batches: Batches, teacher: nn.Module | None) -> LabelledLoop:
        return _SupervisedLoop(network, self.settings, batches)


class _SupervisedLoop(LabelledLoop):
    name = "supervised"
    _settings: SupervisedSettings

    def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = super().get_train_losses(batch_preds, batch_train_data)
        weight = self._settings.kurtosis_weight
        if not weight:
            return losses
        kurtosis = kurtosis_distance(decayed(self._module))
        return {"total_loss": losses["total_loss"] + weight * kurtosis, "task": losses["total_loss"], "kurtosis": kurtosis}
