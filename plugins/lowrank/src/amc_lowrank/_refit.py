"""The final fit: every chain, and every layer behind one, on what the network as far as it is fitted makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from amc_lowrank._nonlinear import fitted_through, following_clip
from amc_lowrank._options import Option, Statistics
from amc_plugins.compression import (
    Moments,
    linear_map,
    nearest_weights,
    refit_sequentially,
    renewed,
    response_targets,
)
from amc_plugins.graph import channel_map

if TYPE_CHECKING:
    from torch import Tensor, nn

    from amc_lowrank._plan import LowRankPlan
    from amc_plugins.graph import ReconstructedNetwork

__all__ = ["refit"]


def refit(
    plan: LowRankPlan, network: ReconstructedNetwork, chosen: Mapping[str, Option]
) -> tuple[ReconstructedNetwork, dict[str, float]]:
    """The network with every chain fitted in order (`network` is changed), and the chains' relative response errors.

    Layers that are not decomposed but see changed inputs get the weights nearest to their own. The last layer of a residual
    branch makes up for the error of its shortcut. With `norm_update`, statistics are renewed if that helps.
    """
    schemes, settings = plan.compressor.schemes(), plan.compressor.settings
    errors: dict[str, float] = {}
    origin = {f"{name}.0": name for name in chosen}

    def fit(layer: str, moments: Moments) -> dict[str, nn.Module]:
        name = origin.get(layer)
        if name is None:
            linear = linear_map(network, layer)
            assert linear is not None
            weight, bias, _ = nearest_weights(moments, linear.weight, linear.groups, settings.ridge, by_variance=True)
            return {layer: linear.rebuilt(weight.to(linear.weight.dtype), bias.to(linear.weight.dtype))}
        option, table = chosen[name], plan.tables[name]
        scheme = schemes[option.scheme]
        modules, errors[name] = scheme.refit(plan.info(name), table.fits[option.scheme], option, Statistics.of(moments))
        return {f"{name}.{index}": module for index, module in enumerate(modules)}

    def through(layer: str, pairs: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> dict[str, nn.Module] | None:
        name = origin.get(layer)
        clip = None if name is None else following_clip(plan.network, name)
        if name is None or clip is None:
            return None
        parts = [part for part in network.layer_names if part.rpartition(".")[0] == name and part.rpartition(".")[2].isdigit()]
        chain, last = [network.layer(part) for part in parts[:-1]], linear_map(network, parts[-1])
        assert last is not None
        made = fitted_through(
            clip,
            chain,
            last,
            pairs,
            samples=sum(len(x) for x, _ in pairs()),
            generator=torch.Generator().manual_seed(plan.seed),
        )
        return {parts[-1]: made.requires_grad_(plan.info(name).trainable)}

    wanted = response_targets(channel_map(plan.network), chosen, torch.zeros(0, dtype=torch.long))
    # a chain is fitted as the layer that it stands for; it keeps the name of the value that this layer makes
    targets = {
        f"{name}.0" if name in chosen else name: replace(target, geometry=linear_map(plan.network, name))
        for name, target in wanted.items()
    }
    refit_sequentially(
        plan.network,
        network,
        plan.calibration,
        targets,
        fit,
        per_sample=settings.sampled_pixels_per_img,
        seed=plan.seed,
        polish=through if settings.nonlinear_case else None,
        noted=errors,
    )
    if settings.norm_update:
        makers = {node.outputs[0]: node.layer for node in network.graph.nodes}
        network = renewed(plan.network, network, plan.calibration, {makers[target.value]: target for target in wanted.values()})
    return network, errors
