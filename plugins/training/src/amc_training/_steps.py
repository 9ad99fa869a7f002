"""What a subclass of `BaseTrainer` may override: the five steps, with their spellings, and further places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amc_training._errors import TrainingError
from amc_training._values import labels, predict

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["STEPS", "Steps"]

STEPS: dict[str, tuple[str, ...]] = {
    "get_train_batch_preds": ("__get_train_batch_preds__",),
    "get_train_losses": ("__get_train_losses__",),
    "get_val_batch_preds": ("__get_val_batch_preds__",),
    "get_val_losses": ("__get_val_losses__",),
    "if_stop_training": ("__if_stop_training__", "__if_stop_trainning__", "if_stop_trainning"),
}
"""The name of each step, and the other spellings that a subclass may define instead."""


def join_spellings(cls: type) -> None:
    """Make all spellings of a step the same method of `cls`: the one that is nearest in its method resolution order.

    So the loop calls one name, and `super().<any spelling>` works, whatever the classes between define.

    Raises:
        TrainingError: one class defines two spellings of a step differently.
    """
    for name, others in STEPS.items():
        spellings = (name, *others)
        for owner in cls.__mro__:
            own = {spelling: vars(owner)[spelling] for spelling in spellings if spelling in vars(owner)}
            if not own:
                continue
            method = next(iter(own.values()))
            if any(other is not method for other in own.values()):
                raise TrainingError(f"`{owner.__name__}` defines one step in two ways: {' and '.join(own)}; keep one of them")
            for spelling in spellings:
                if getattr(cls, spelling, None) is not method:
                    setattr(cls, spelling, method)
            break


class Steps:
    """The parts of a training that differ. The loop calls the plain names."""

    _network: nn.Module
    _criterion: Any
    _device: torch.device | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        join_spellings(cls)

    # ------------------------------------------------------------------ the five steps

    def get_train_batch_preds(self, batch_train_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Predictions for one training batch. Default: the network on `batch[0]`, a tensor or a tuple of inputs."""
        return predict(self._network, batch_train_data, self._device)

    def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Losses of one training batch, each a mean over its samples. `total_loss` is minimised, every entry is logged.

        Default: the criterion on the predictions and `batch[1]`.
        """
        return {"total_loss": self._criterion(batch_preds, labels(batch_train_data, self._device))}

    def get_val_batch_preds(self, batch_val_data: Any, *args: Any, **kwargs: Any) -> Any:
        """Predictions for one validation batch. Default: the network on `batch[0]`."""
        return predict(self._network, batch_val_data, self._device)

    def get_val_losses(self, batch_preds: Any, batch_val_data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Losses of one validation batch, `total_loss` among them. Default: the criterion on the predictions and `batch[1]`."""
        return {"total_loss": self._criterion(batch_preds, labels(batch_val_data, self._device))}

    def if_stop_training(self, *args: Any, **kwargs: Any) -> bool:
        """Whether to stop; asked at the end of every epoch. Default: no."""
        return False

    __get_train_batch_preds__ = get_train_batch_preds
    __get_train_losses__ = get_train_losses
    __get_val_batch_preds__ = get_val_batch_preds
    __get_val_losses__ = get_val_losses
    __if_stop_training__ = __if_stop_trainning__ = if_stop_trainning = if_stop_training

    # ------------------------------------------------------------------ further places to override

    def get_val_metrics(self, batch_preds: Any, batch_val_data: Any, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        """Further numbers of one validation batch (means over its samples), for example an accuracy. Default: none."""
        return {}

    def get_score(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """What the best epoch has most of, from validation losses and metrics; compared in order. Default: `-total_loss`."""
        return (-values["total_loss"],)

    def train_mode(self) -> None:
        """Set modes before a training epoch. Default: everything in train mode; override to keep frozen parts in eval mode."""
        self._network.train()

    def extra_state(self) -> dict[str, Any]:
        """What a subclass wants in the checkpoints: tensors, numbers, strings and containers of them. Default: nothing."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    def epoch_ended(self, epoch: int, values: Mapping[str, float]) -> None:
        """Told about every epoch (from 1) with its entry of the history and the throughput, after its checkpoint is written.

        Default: nothing.
        """
