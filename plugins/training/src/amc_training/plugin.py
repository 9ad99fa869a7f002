"""The declarations of this distribution: the trainer `supervised` and the observer `tensorboard`. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from amc_plugins.plugin import AMC_API, ObserverSpec, Settings, TrainerSpec, hookimpl

__all__ = ["SupervisedSettings", "TensorboardSettings"]

_SERVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("sgd",)),
    "label_smoothing": ("loss", ("cross_entropy",)),
    "decay": ("schedule", ("step", "plateau")),
    "plateau_patience": ("schedule", ("plateau",)),
    "warmup": ("schedule", ("cosine", "step", "none")),
}
"""A setting, and the choices of another one that it needs; with any other choice it would do nothing."""


class SupervisedSettings(Settings):
    """How `supervised` trains. The loaders give the batches; nothing here changes them."""

    epochs: Annotated[int, Field(ge=1, description="passes over the training set")] = 10
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False, description="the highest learning rate")] = 1e-2
    optimizer: Annotated[Literal["sgd", "adam", "adamw"], Field(description="sgd is with Nesterov's momentum")] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1, description="of sgd")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False, description="spares biases and normalisation")] = 5e-4
    schedule: Annotated[
        Literal["cosine", "step", "none", "plateau"],
        Field(description="cosine to 0; step: x decay at 1/2 and 3/4; plateau: x decay when the validation loss stalls"),
    ] = "cosine"
    warmup: Annotated[float, Field(ge=0, description="epochs of linear rise of the learning rate, also a fraction")] = 0.0
    decay: Annotated[float, Field(gt=0, lt=1, description="factor of the schedules step and plateau")] = 0.1
    plateau_patience: Annotated[int, Field(ge=0, description="epochs without improvement before schedule plateau decays")] = 5
    loss: Annotated[
        Literal["cross_entropy", "bce", "mse", "l1", "smooth_l1"],
        Field(description="cross_entropy: classes, also per pixel; bce: several labels; the others: regression"),
    ] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="of cross_entropy, on the training set only")] = 0.0
    best_by: Annotated[
        Literal["metric", "loss"],
        Field(description="what chooses the best epoch on the validation set; equal metrics are told apart by the loss"),
    ] = "metric"
    device: Annotated[str | None, Field(description="for example cuda:0; not given: where the network is")] = None

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        for name, (other, choices) in _SERVES.items():
            given, chosen = getattr(self, name), getattr(self, other)
            if name in self.model_fields_set and given != type(self).model_fields[name].default and chosen not in choices:
                raise ValueError(f"`{name}` does nothing with `{other}` {chosen!r}: it needs {' or '.join(map(repr, choices))}")
        if self.warmup > self.epochs:
            raise ValueError(f"`warmup` is {self.warmup:g} epochs, more than the {self.epochs} of the training")
        return self


class TensorboardSettings(Settings):
    """Where `tensorboard` writes."""

    folder: Annotated[str, Field(min_length=1, description="of the event files; a relative one is in the run's folder")] = (
        "tensorboard"
    )
    flush_seconds: Annotated[int, Field(ge=1, description="how long values may wait before they are on disk")] = 10


@hookimpl
def amc_trainers() -> Iterator[TrainerSpec]:
    yield TrainerSpec(
        name="supervised",
        summary="train on labels: classification, segmentation or regression by choice of loss",
        api=AMC_API,
        target="amc_training._supervised:SupervisedTrainer",
        settings=SupervisedSettings,
    )


@hookimpl
def amc_observers() -> Iterator[ObserverSpec]:
    yield ObserverSpec(
        name="tensorboard",
        summary="tensorboardX scalars: losses, metrics, learning rate, layer errors, candidate scores",
        api=AMC_API,
        target="amc_training._tensorboard:TensorboardObserver",
        settings=TensorboardSettings,
    )
