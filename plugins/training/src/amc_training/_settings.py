"""Settings of the trainers. Free of torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from amc_plugins.plugin import Settings

__all__ = ["DistillationSettings", "LabelledSettings", "QuantizationSettings", "SupervisedSettings", "TensorboardSettings"]

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Layers = list[Annotated[str, Field(min_length=1)]]


class LabelledSettings(Settings):
    """What all trainers on labels have in common. The loaders give the batches; nothing here changes them."""

    serves: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "momentum": ("optimizer", ("sgd",)),
        "label_smoothing": ("loss", ("cross_entropy",)),
        "focal_gamma": ("loss", ("focal",)),
        "decay": ("schedule", ("step", "plateau")),
        "plateau_patience": ("schedule", ("plateau",)),
        "warmup": ("schedule", ("cosine", "step", "none")),
    }
    """A setting, and the choices of another one that it needs; with any other choice it would do nothing."""

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
        Literal["cross_entropy", "focal", "dice", "bce", "mse", "l1", "smooth_l1"],
        Field(
            description="cross_entropy, focal: classes, also per pixel; dice: classes per pixel; bce: several labels; the "
            "others: regression"
        ),
    ] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="of cross_entropy, on the training set only")] = 0.0
    focal_gamma: Annotated[float, Field(ge=0, allow_inf_nan=False, description="how much focal spares what is easy")] = 2.0
    metric: Annotated[
        Literal["accuracy", "top5", "mean_iou", "label_accuracy", "absolute_error", "squared_error"] | None,
        Field(description="what is measured on the validation set; by default what goes with the loss"),
    ] = None
    best_by: Annotated[
        Literal["metric", "loss"],
        Field(description="what chooses the best epoch on the validation set; equal metrics are told apart by the loss"),
    ] = "metric"
    patience: Annotated[int | None, Field(ge=1, description="stop after so many epochs without a better one")] = None
    ema_decay: Annotated[
        float | None, Field(gt=0, lt=1, description="validate and keep a running average of the weights with this decay")
    ] = None
    accumulation: Annotated[int, Field(ge=1, description="batches whose gradients make one step together")] = 1
    clip_norm: Annotated[float | None, Field(gt=0, allow_inf_nan=False, description="largest norm of the gradients")] = None
    mixed_precision: Annotated[
        Literal["no", "bf16", "fp16"], Field(description="of the forward pass; fp16 needs an accelerator")
    ] = "no"
    checkpoint_steps: Annotated[int | None, Field(ge=1, description="write checkpoints within epochs, every so many steps")] = (
        None
    )
    device: Annotated[str | None, Field(description="for example cuda:0; not given: where the network is")] = None

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        for name, (other, choices) in self.serves.items():
            given, chosen = getattr(self, name), getattr(self, other)
            if name in self.model_fields_set and given != type(self).model_fields[name].default and chosen not in choices:
                raise ValueError(f"`{name}` does nothing with `{other}` {chosen!r}: it needs {' or '.join(map(repr, choices))}")
        if self.warmup > self.epochs:
            raise ValueError(f"`warmup` is {self.warmup:g} epochs, more than the {self.epochs} of the training")
        return self


class SupervisedSettings(LabelledSettings):
    """How `supervised` trains."""

    kurtosis_weight: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="prepares for quantization: pulls weights to a uniform distribution"),
    ] = 0.0


class DistillationSettings(LabelledSettings):
    """How `distillation` trains. Layers are named as in the networks, with globs, and matched by name."""

    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False, description="of both distributions")] = 2.0
    logits_weight: Annotated[
        Weight | None,
        Field(
            description="of the divergence from the teacher's class probabilities; not given: 1 where no layer is imitated, "
            "else 0"
        ),
    ] = None
    label_weight: Annotated[Weight, Field(description="of the loss on labels; 0: batches need no labels")] = 1.0
    hint_layers: Annotated[
        Layers | None,
        Field(
            description="layers whose outputs the student imitates, through a learnt 1 x 1 map; not given: what the last "
            "convolution or linear layer reads, where both networks were captured"
        ),
    ] = None
    hint_weight: Annotated[
        Weight, Field(description="of the hint loss, half the squared distance relative to the variance of what is imitated")
    ] = 1.0
    calibration_batches: Annotated[int, Field(ge=1, description="training batches from which the maps of hints start")] = 4
    attention_layers: Annotated[Layers, Field(description="layers whose attention maps the student imitates")] = []
    attention_weight: Annotated[Weight, Field(description="of attention transfer")] = 1000.0

    @model_validator(mode="after")
    def _something_is_learnt(self) -> Self:
        hints = 0.0 if self.hint_layers == [] else self.hint_weight
        attention = self.attention_weight if self.attention_layers else 0.0
        if self.logits_weight == 0 and not hints + attention:
            raise ValueError(
                "nothing would be learnt from the teacher: give `logits_weight`, `hint_layers` or `attention_layers`"
            )
        return self


class QuantizationSettings(LabelledSettings):
    """How `quantization` trains: weights and activations are rounded in the forward pass, their ranges are learnt."""

    weight_bits: Annotated[int, Field(ge=2, le=8, description="bits of weights, with a range per output channel")] = 8
    activation_bits: Annotated[int, Field(ge=2, le=8, description="bits of what layers read, with a range per tensor")] = 8
    ends_bits: Annotated[int, Field(ge=2, le=8, description="bits of the first and the last layer, if others have fewer")] = 8
    calibration_batches: Annotated[int, Field(ge=1, description="training batches from which ranges start")] = 4
    bin_weight: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="of bin regularisation: draws weights to the values they are rounded to"),
    ] = 0.0
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False, description="the highest learning rate")] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False, description="spares biases and ranges")] = 0.0


class TensorboardSettings(Settings):
    """Where `tensorboard` writes."""

    folder: Annotated[str, Field(min_length=1, description="of the event files; a relative one is in the run's folder")] = (
        "tensorboard"
    )
    flush_seconds: Annotated[int, Field(ge=1, description="how long values may wait before they are on disk")] = 10
