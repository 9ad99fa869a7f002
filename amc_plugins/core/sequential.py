"""Fitting a compressed network layer by layer on its own activations, beside the original on the same samples.

Both networks are stepped node by node with the activations of all samples kept at the frontier, so that one refit of the whole
network costs one forward of each (asymmetric reconstruction: He, Zhang and Sun, ICCV 2017, section 3.2; Zhang, Zou, He and Sun, TPAMI
2015, section 3.3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from amc_plugins.core.errors import GraphError
from amc_plugins.core.moments import (
    MEMORY,
    Moments,
    accumulate,
    linear_map,
    position_generator,
    sampled_positions,
    warn_about_samples,
)
from amc_plugins.core.network import ReconstructedNetwork, _resolve, handler_for, layer_key, plain_params

if TYPE_CHECKING:
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.handlers import LinearMap

__all__ = ["Fit", "Target", "install", "match_responses", "refit_sequentially"]

_GROWTH = 4
"""A refit starts again with more samples as soon as that many times as many fit into the memory cap."""

_log = logging.getLogger(__name__)
Fit = Callable[[str, Moments], Mapping[str, nn.Module] | None]


def refit_sequentially(
    original: ReconstructedNetwork,
    compressed: ReconstructedNetwork,
    calibration: Calibration,
    layers: Mapping[str, str | Target],
    fit: Fit,
    *,
    per_sample: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
) -> None:
    """Fit layers of `compressed` in running order, each on the inputs that the layers fitted before it make; changes `compressed`.

    For each layer: x are the patches of its input in `compressed`, y the target in `original` at the same pixels; `fit(layer, moments)`
    returns modules by layer name, which are installed before going on (several for a chain), or None to leave all as it is.

    As many samples are used as `memory` bytes of activations allow; when the activations become smaller further down, the fitted part
    is run again on more samples.

    Args:
        layers: layers of `compressed` and their targets (a value name of `original` stands for `Target(value)`).
        per_sample: as for `collect_moments`.
        seed: of the pixels.

    Raises:
        GraphError: a layer or value does not exist, a layer is no linear map or is called several times, or a shortcut depends on the
            layer that should correct it.
    """
    pair = Pair(original, compressed, layers, memory)
    collected: dict[str, Moments] = {}
    with torch.no_grad(), evaluating(compressed):
        for visit in pair.visits(calibration):
            generator = position_generator(visit.layer, seed)
            moments: Moments | None = None
            for x, y in visit.pairs():
                positions = sampled_positions(visit.geometry, tuple(y.shape), per_sample, visit.samples, generator)
                if moments is None:
                    width = visit.geometry.weight.shape[1] * visit.geometry.groups
                    moments = Moments(width, visit.outputs(y), groups=visit.geometry.groups, device=x.device)
                accumulate(moments, visit.geometry, x, positions, y)
            assert moments is not None
            collected[visit.layer] = moments
            warn_about_samples({visit.layer: moments})
            for name, module in (fit(visit.layer, moments) or {}).items():
                install(compressed, name, module)


def match_responses(
    original: ReconstructedNetwork,
    compressed: ReconstructedNetwork,
    calibration: Calibration,
    layers: Mapping[str, str | Target],
    *,
    memory: int = MEMORY,
    most: float = 2.0,
) -> None:
    """Give each layer's response the mean and variance per channel that its target has, in running order; changes `compressed`.

    A least-squares fit has less variance than its target; scaling the rows of the weights (by at most `most`, at least its inverse)
    undoes that. It can hurt, so compare `output_divergence` before and after.
    """
    pair = Pair(original, compressed, layers, memory)
    with torch.no_grad(), evaluating(compressed):
        for visit in pair.visits(calibration):
            linear = visit.own
            wanted = have = None
            for x, y in visit.pairs():
                made = compressed.layer(visit.layer)(x)
                wanted = _add_statistics(wanted, y, linear.input_axis)
                have = _add_statistics(have, made, linear.input_axis)
            assert wanted is not None and have is not None
            (mean, variance), (mean_now, variance_now) = _mean_variance(wanted), _mean_variance(have)
            scale = (
                torch.where(variance_now > 0, variance / variance_now, torch.ones_like(variance)).sqrt().clamp(1 / most, most)
            )
            bias = 0.0 if linear.bias is None else linear.bias.detach().double()
            weight = linear.weight.detach().double() * scale[:, None]
            fitted = linear.rebuilt(weight.to(linear.weight.dtype), (scale * (bias - mean_now) + mean).to(linear.weight.dtype))
            install(compressed, visit.layer, fitted)


def install(network: ReconstructedNetwork, layer: str, module: nn.Module) -> None:
    """Put `module` in the place of a layer of the same op; device, dtype, mode and `requires_grad` become those of the old one."""
    old = network.layer(layer)
    reference = next(old.parameters(), None)
    if reference is not None:
        module.to(reference.device, reference.dtype)
        for parameter in module.parameters():
            parameter.requires_grad_(reference.requires_grad)
    module.train(old.training)
    network.layers[layer_key(layer)] = module
    for node in network.nodes_of(layer):
        node.params = plain_params(handler_for(node.op), module)


# --- response statistics -----------------------------------------------------------------------------------------------------

_Statistics = tuple[int, Tensor, Tensor, Tensor]
"""Count, shift, and per channel the sums of values and squares about the shift."""


def _add_statistics(sums: _Statistics | None, y: Tensor, axis: int) -> _Statistics:
    rows = y.movedim(axis, -1).reshape(-1, y.shape[axis]).double()
    if sums is None:
        sums = 0, rows.mean(0), torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
    count, shift, first, second = sums
    rows = rows - shift
    return count + len(rows), shift, first + rows.sum(0), second + rows.square().sum(0)


def _mean_variance(sums: _Statistics) -> tuple[Tensor, Tensor]:
    count, shift, first, second = sums
    mean = first / count
    return shift + mean, (second / count - mean.square()).clamp_min(0.0)
