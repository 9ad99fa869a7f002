"""Fitting a compressed network layer by layer on its own activations, beside the original on the same samples.

One refit of a whole network costs one forward of each (asymmetric reconstruction: He, Zhang and Sun, ICCV 2017, section
3.2; Zhang, Zou, He and Sun, TPAMI 2015, section 3.3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_plugins.core.edit import set_layer
from amc_plugins.core.moments import MEMORY, Moments, accumulate, linear_map, moments_bytes, warn_about_samples
from amc_plugins.core.refits import FittedLayers
from amc_plugins.core.sampling import position_generator, sampled_positions
from amc_plugins.core.stepping import Pair, Target, Visit, evaluating

if TYPE_CHECKING:
    from torch import nn

    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["Fit", "Polish", "Target", "match_responses", "refit_sequentially"]

_log = logging.getLogger(__name__)

Fit = Callable[[str, Moments], "Mapping[str, nn.Module] | None"]
Polish = Callable[[str, Callable[[], Iterator[tuple[Tensor, Tensor]]]], "Mapping[str, nn.Module] | None"]


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
    polish: Polish | None = None,
    noted: MutableMapping[str, Any] | None = None,
) -> None:
    """Fit layers of `compressed` in running order, each on what the layers fitted before it make; changes `compressed`.

    For each layer: x are the patches of its input in `compressed`, y the target in `original` at the same samples and pixels.
    `fit(layer, moments)` returns modules by layer name, which are installed before going on (several for a chain), or None to
    leave everything as it is.

    As many samples are used as `memory` bytes of activations allow; where activations become smaller further down, the fitted
    part is run again on more samples. A layer whose moments would take more than `MEMORY` keeps its weights.

    Args:
        layers: layers of `compressed` and their targets (a value name of `original` stands for `Target(value)`).
        per_sample: as for `collect_moments`.
        seed: of the pixels.
        polish: called after each fit with the layer's name and a function that gives its inputs and targets, whole and chunk
            by chunk: for fits that moments cannot serve. What it returns is installed as `fit`'s is.
        noted: where `fit` and `polish` note what is wanted of them besides the network (errors by layer); all of it pickles.
            With this, in a run with a folder, each layer is kept as soon as it is fitted, and the same refit of a run that was
            stopped goes on behind it.

    Raises:
        GraphError: a layer or value does not exist, a layer is no linear map or runs several times, or a shortcut depends on
            the layer that should correct it.
    """
    layers = {name: target for name, target in layers.items() if not _too_wide(compressed, name, target)}
    with torch.no_grad(), evaluating(compressed):
        pair = Pair(original, compressed, layers, memory)
        asked = (per_sample, seed, memory, *((name, *target.told) for name, target in pair.targets.items()))
        kept = FittedLayers.of(original, compressed, calibration, asked, noted)
        behind = 0 if kept is None else kept.restored([layer for _, layer in pair.stops])
        for visit in pair.visits(calibration, behind):
            moments = _moments_at(visit, per_sample, seed)
            warn_about_samples({visit.layer: moments})
            with nullcontext() if kept is None else kept.keeping(visit.layer):
                for name, module in (fit(visit.layer, moments) or {}).items():
                    set_layer(compressed, name, module)
                if polish is not None:
                    for name, module in (polish(visit.layer, visit.pairs) or {}).items():
                        set_layer(compressed, name, module)


def _moments_at(visit: Visit, per_sample: int | None, seed: int) -> Moments:
    geometry = visit.geometry
    generator = position_generator(visit.layer, seed)
    moments: Moments | None = None
    for x, y in visit.pairs():
        if moments is None:
            width, outputs = geometry.weight.shape[1] * geometry.groups, y.shape[geometry.input_axis]
            moments = Moments(width, outputs, groups=geometry.groups, device=x.device)
        pixels = y.numel() // (len(y) * y.shape[geometry.input_axis])
        positions = sampled_positions(geometry, tuple(y.shape), pixels, per_sample, visit.samples, generator)
        accumulate(moments, geometry, x, positions, y)
    assert moments is not None
    return moments


def _too_wide(network: ReconstructedNetwork, layer: str, target: str | Target) -> bool:
    given = None if isinstance(target, str) else target.geometry
    geometry = given or linear_map(network, layer)
    if geometry is None or (size := moments_bytes(geometry)) <= MEMORY:
        return False
    _log.warning("%s keeps its weights: statistics for a fit would take %.1f GiB", layer, size / 2**30)
    return True


def match_responses(
    original: ReconstructedNetwork,
    compressed: ReconstructedNetwork,
    calibration: Calibration,
    layers: Mapping[str, str | Target],
    *,
    memory: int = MEMORY,
    most: float = 2.0,
) -> None:
    """Give each layer's response the mean and variance per channel of its target, in running order; changes `compressed`.

    A least-squares fit has less variance than its target; scaling the rows of the weights (by at most `most`, at least its
    inverse) undoes that. It can hurt: compare the outputs' divergence before and after.

    Raises:
        GraphError: as `refit_sequentially`.
    """
    with torch.no_grad(), evaluating(compressed):
        for visit in Pair(original, compressed, layers, memory).visits(calibration):
            linear = visit.own
            wanted, have = _ChannelStatistics(), _ChannelStatistics()
            for x, y in visit.pairs():
                wanted.update(y, linear.input_axis)
                have.update(compressed.layer(visit.layer)(x), linear.input_axis)
            now = have.variance
            scale = torch.where(now > 0, wanted.variance / now, torch.ones_like(now)).sqrt().clamp(1 / most, most)
            bias = torch.zeros_like(scale) if linear.bias is None else linear.bias.detach().double()
            weight = linear.weight.detach().double() * scale[:, None]
            bias = scale * (bias - have.mean) + wanted.mean
            set_layer(compressed, visit.layer, linear.rebuilt(weight.to(linear.weight.dtype), bias.to(linear.weight.dtype)))


class _ChannelStatistics:
    """Mean and variance per channel of values seen in parts, about the mean of the first part."""

    def __init__(self) -> None:
        self._count = 0

    def update(self, y: Tensor, axis: int) -> None:
        rows = y.movedim(axis, 0).flatten(1)
        if self._count == 0:
            self._shift = rows.mean(1).double()
            self._first = torch.zeros_like(self._shift)
            self._second = torch.zeros_like(self._shift)
        rows = rows - self._shift.to(rows.dtype)[:, None]
        self._first += rows.sum(1).double()
        self._second += (rows * rows).sum(1).double()
        self._count += rows.shape[1]

    @property
    def mean(self) -> Tensor:
        return self._shift + self._first / self._count

    @property
    def variance(self) -> Tensor:
        return (self._second / self._count - (self._first / self._count).square()).clamp_min(0.0)
