"""The compressor `mixed`: plans of the two methods, side by side on one network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_mixed._chains import costs_of, thinned
from amc_mixed._plan import MixedPlan
from amc_mixed._widths import Widths
from amc_plugins import prepare
from amc_plugins.compression import Calibration, Compressor
from amc_plugins.graph import channel_map, walk
from amc_plugins.plugin import SettingsError

if TYPE_CHECKING:
    from amc_mixed.plugin import MixedSettings
    from amc_plugins.compression import Evaluate, Run
    from amc_plugins.graph import ReconstructedNetwork

__all__ = ["Mixed"]

_MEANS = 256
"""Samples that mean inputs are taken over."""


class Mixed(Compressor):
    """Channel pruning, then low-rank decomposition of what is left. See `amc_mixed.plugin.MixedSettings`."""

    settings: MixedSettings

    def prepare(
        self,
        network: ReconstructedNetwork,
        calibration: Iterable[Any],
        *,
        seed: int,
        evaluate: Evaluate | None = None,
        budget: float | None = None,
        run: Run | None = None,
    ) -> MixedPlan:
        """Prepare both methods, the second on the first one's reference network: an equal one, perhaps in another basis.

        Raises:
            SettingsError: a setting of one of the methods is not valid, or the calibration data does not fit the network.
        """
        settings = self.settings
        if settings.pruning.get("swap_polish") or settings.pruning.get("steps", 1) != 1:
            raise SettingsError("`steps` and `swap_polish` act where `pruning` makes its network alone, not in `mixed`")
        data = Calibration.of(calibration, trainset_ratio=settings.trainset_ratio, seed=seed)
        shared = {"sampled_pixels_per_img": settings.sampled_pixels_per_img}
        damped = {**shared, "ridge": settings.ridge}
        prune = prepare(network, "pruning", calibration=data, seed=seed, run=run, **{**damped, **settings.pruning})
        base = prune.reference(prune.smallest)
        split = prepare(base, "lowrank", calibration=data, seed=seed, run=run, **{**shared, **settings.lowrank})
        variables = [thinned(variable, settings.choices) for variable in split.variables]
        layers = [variable.layers[0] for variable in variables]
        return MixedPlan(
            network=prune.network,
            calibration=prune.calibration,
            compressor=self,
            seed=seed,
            settings=settings,
            prune=prune,
            split=split,
            channels=channel_map(base),
            splits=variables,
            costs={one.layers[0]: cost for one, cost in zip(variables, costs_of(split, variables).values(), strict=True)},
            widths=Widths.of(prune, layers),
            means=_input_means(base, layers, data.subset(_MEANS)),
        )


def _input_means(network: ReconstructedNetwork, layers: Iterable[str], data: Calibration) -> Mapping[str, Tensor]:
    """Per layer: the mean of each input channel, over samples and positions."""
    wanted = {network.nodes_of(layer)[0].name: layer for layer in layers}
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for inputs in data.chunks(network):
            for step in walk(network, inputs):
                if step.node.name in wanted:
                    x = step.inputs[0]
                    axis = 1 if x.dim() > 2 else -1
                    mean = x.movedim(axis, 0).flatten(1).double().mean(1) * len(x)
                    layer = wanted[step.node.name]
                    sums[layer] = mean if layer not in sums else sums[layer] + mean
    return {layer: one / len(data) for layer, one in sums.items()}
