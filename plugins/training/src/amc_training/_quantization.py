"""The trainer `quantization`: trains a network with rounded weights and activations, so that integers serve it afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from amc_plugins.compression import linear_map
from amc_plugins.graph import ReconstructedNetwork, Step, fold_norms, insert_after, producer, walk
from amc_plugins.plugin import SettingsError
from amc_training._errors import TrainingError
from amc_training._fake_quantize import FakeQuantize, WeightQuantizer
from amc_training._fitting import Batches, LabelledLoop, LabelledTrainer
from amc_training._losses import bin_distance
from amc_training._rng import peek
from amc_training._shapes import explained
from amc_training._values import device_of, inputs_of

if TYPE_CHECKING:
    from amc_plugins.training import TrainingResult
    from amc_training._settings import QuantizationSettings

__all__ = ["OP", "QuantizationTrainer", "baked", "quantized"]

OP = "vn.fake_quantize"
_SAMPLES = 2**18
"""Entries of a tensor, in all batches together, from which its range starts."""


class QuantizationTrainer(LabelledTrainer):
    """Quantization-aware training: batch norms folded, weights rounded per output channel, what layers read rounded per tensor.

    Ranges start where the rounding error on training batches is least and are learnt (Esser et al., ICLR 2020). The result
    is an ordinary network: its weights are the rounded ones, and `vn.fake_quantize` layers round what convolutions and
    linear layers read.
    """

    name = "quantization"
    settings: QuantizationSettings

    def loop(self, network: nn.Module, batches: Batches, teacher: nn.Module | None) -> LabelledLoop:
        if not isinstance(network, ReconstructedNetwork):
            raise SettingsError(
                f"`quantization` needs a captured network, given was a {type(network).__name__}",
                hint="network = amc.capture(model, example_input)",
            )
        return _QuantizationLoop(quantized(network, batches.train, self.settings), self.settings, batches)

    def finished(self, result: TrainingResult) -> TrainingResult:
        baked(result.network)
        return result


class _QuantizationLoop(LabelledLoop):
    name = "quantization"
    _settings: QuantizationSettings

    def get_train_losses(self, batch_preds: Any, batch_train_data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        losses = super().get_train_losses(batch_preds, batch_train_data)
        weight = self._settings.bin_weight
        if not weight:
            return losses
        bins = torch.stack([_scatter(module) for module in _rounding(self._module)]).mean()
        return {"total_loss": losses["total_loss"] + weight * bins, "task": losses["total_loss"], "bins": bins}


def quantized(network: ReconstructedNetwork, train: Iterable[Any], settings: QuantizationSettings) -> ReconstructedNetwork:
    """A copy whose convolutions and linear layers round their weights and what they read, with ranges from training batches.

    Raises:
        SettingsError: there is nothing to quantize.
        TrainingError: the loader gives no batch.
    """
    folded = fold_norms(network)
    layers = [name for name in folded.layer_names if linear_map(folded, name) is not None]
    if not layers:
        raise SettingsError("there is no convolution or linear layer to quantize in this network")
    ends = {layers[0], layers[-1]}
    for layer in layers:
        more = settings.ends_bits if layer in ends else 0
        weight_bits, bits = max(settings.weight_bits, more), max(settings.activation_bits, more)
        for node in folded.nodes_of(layer):
            made = producer(folded, node.inputs[0])
            if made is None or made.op != OP:
                insert_after(folded, node.inputs[0], OP, FakeQuantize(bits), f"{node.name}.input")
        module = folded.layer(layer)
        weight = module.get_parameter("weight")
        parametrize.register_parametrization(module, "weight", WeightQuantizer(weight, weight_bits))
    folded.to(device_of(network))
    _start_ranges(folded, train, settings.calibration_batches)
    return folded.train(network.training)


def baked(network: nn.Module) -> None:
    """Make the rounded weights the weights, in place."""
    for module in list(_rounding(network)):
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def _rounding(network: nn.Module) -> Iterator[nn.Module]:
    """The layers that round their weights."""
    return (module for module in network.modules() if parametrize.is_parametrized(module, "weight"))


def _scatter(module: nn.Module) -> Tensor:
    held = module.get_submodule("parametrizations.weight")
    assert isinstance(held, parametrize.ParametrizationList)
    quantizer, weight = held[0], held.original
    assert isinstance(quantizer, WeightQuantizer) and isinstance(weight, Tensor)
    in_steps = weight / quantizer.steps(weight).detach()
    return bin_distance(in_steps, in_steps.round().clamp(*quantizer.range))


def _start_ranges(network: ReconstructedNetwork, train: Iterable[Any], batches: int) -> None:
    def exact(step: Step) -> Any:
        return step.inputs[0] if isinstance(step.module, FakeQuantize) else step.module(*step.inputs, **step.params)

    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    seen: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for batch in peek(train, batches):
            inputs = inputs_of(batch, device_of(network))
            with explained(network, inputs):
                for step in walk(network, inputs, run=exact):
                    if isinstance(step.module, FakeQuantize):
                        values = step.inputs[0].flatten()
                        every = max(1, values.numel() * batches // _SAMPLES)
                        seen.setdefault(step.node.layer, []).append(values[::every])
    for module, training in modes:
        module.training = training
    if not seen:
        raise TrainingError("the training loader gave no batch to take ranges from")
    for layer, parts in seen.items():
        quantizer = network.layer(layer)
        assert isinstance(quantizer, FakeQuantize)
        quantizer.start(torch.cat(parts))
