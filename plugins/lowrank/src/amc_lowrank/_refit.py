"""The final fit: every chain, and every layer behind one, on what the network as far as it is fitted makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from amc_lowrank._options import Option, Statistics
from amc_plugins.compression import Moments, Target, branch_of, linear_map, refit_sequentially, solve_gram

if TYPE_CHECKING:
    from amc_lowrank._plan import LowRankPlan
    from amc_plugins.graph import ReconstructedNetwork
    from amc_plugins.handlers import LinearMap

__all__ = ["refit", "updated"]


def refit(plan: LowRankPlan, network: ReconstructedNetwork, chosen: Mapping[str, Option]) -> dict[str, float]:
    """Fit in place; returns the relative response error of every chain.

    The target of the last layer of a residual branch makes up for the error of its shortcut.
    """
    schemes = plan.compressor.schemes()
    settings = plan.compressor.settings
    errors: dict[str, float] = {}
    origin = {f"{name}.0": name for name in chosen}

    def fit(layer: str, moments: Moments) -> dict[str, nn.Module]:
        name = origin.get(layer)
        if name is None:
            linear = linear_map(network, layer)
            assert linear is not None
            return {layer: updated(linear, moments, settings.ridge)}
        option, table = chosen[name], plan.tables[name]
        scheme = schemes[option.scheme]
        modules, errors[name] = scheme.refit(plan.info(name), table.fits[option.scheme], option, Statistics.of(moments))
        return {f"{name}.{index}": module for index, module in enumerate(modules)}

    targets = {layer: target_of(plan.network, name) for layer, name in origin.items()}
    for name in plan.followers(chosen):
        targets[name] = target_of(plan.network, name)
    refit_sequentially(
        plan.network, network, plan.calibration, targets, fit, per_sample=settings.sampled_pixels_per_img, seed=plan.seed
    )
    return errors


def target_of(original: ReconstructedNetwork, layer: str) -> Target:
    """The response of `layer` in the original, at the end of a residual branch plus the error of the shortcut."""
    value = original.nodes_of(layer)[0].outputs[0]
    branch = branch_of(original, layer)
    geometry = linear_map(original, layer)
    if branch is None:
        return Target(value, geometry=geometry)
    # chains keep the names of the values that they make
    return Target(value, shortcut=(branch.shortcut, branch.shortcut), shortcut_scale=branch.scale, geometry=geometry)


def updated(linear: LinearMap, moments: Moments, ridge: float) -> nn.Module:
    """The layer with the least-squares weights nearest to its own: the ridge pulls towards them, not towards zero."""
    weight = linear.weight.detach().double().reshape(linear.groups, -1, linear.weight.shape[1])
    gram = moments.gram.reshape(linear.groups, *moments.gram.shape[-2:])
    cross = moments.cross.reshape(linear.groups, *moments.cross.shape[-2:])
    missing = cross - gram @ weight.transpose(1, 2)
    change = torch.stack(
        [solve_gram(g, c, per_unknown=moments.per_unknown, ridge=ridge) for g, c in zip(gram, missing, strict=True)]
    )
    weight = weight + change.transpose(1, 2)
    bias = moments.mean_y - (weight @ moments.mean_x.reshape(linear.groups, -1, 1)).flatten()
    return linear.rebuilt(weight.flatten(0, 1).to(linear.weight.dtype), bias.to(linear.weight.dtype))
