"""The declarations of this distribution: trainers, the observer `tensorboard`, and the op that quantized networks hold. Free
of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import AMC_API, LayerHandlerSpec, ObserverSpec, TrainerSpec, hookimpl
from amc_training._settings import DistillationSettings, QuantizationSettings, SupervisedSettings, TensorboardSettings

__all__ = ["DistillationSettings", "QuantizationSettings", "SupervisedSettings", "TensorboardSettings"]


@hookimpl
def amc_trainers() -> Iterator[TrainerSpec]:
    yield TrainerSpec(
        name="supervised",
        summary="train on labels: classification, segmentation or regression by choice of loss",
        api=AMC_API,
        target="amc_training._supervised:SupervisedTrainer",
        settings=SupervisedSettings,
    )
    yield TrainerSpec(
        name="distillation",
        summary="train on labels and on a teacher: its class probabilities, hints and attention maps",
        api=AMC_API,
        target="amc_training._distillation:DistillationTrainer",
        settings=DistillationSettings,
    )
    yield TrainerSpec(
        name="quantization",
        summary="train for integers: rounded weights and activations with learnt ranges, batch norms folded",
        api=AMC_API,
        target="amc_training._quantization:QuantizationTrainer",
        settings=QuantizationSettings,
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


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    yield LayerHandlerSpec(
        name="fake_quantize",
        op="vn.fake_quantize",
        summary="rounds a tensor to the values of an integer type",
        api=AMC_API,
        target="amc_training._fake_quantize:FakeQuantizeHandler",
        captures=("amc_training._fake_quantize.FakeQuantize",),
    )
