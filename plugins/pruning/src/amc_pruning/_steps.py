"""Pruning in several small steps: channels are chosen again on what the network has become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from amc_plugins.compression import collect_moments, install, kept_rows
from amc_plugins.graph import ChannelMap, channel_map
from amc_pruning._curves import fit_kept
from amc_pruning._problems import Consumer
from amc_pruning._selection import keep_order

if TYPE_CHECKING:
    from amc_plugins.graph import ReconstructedNetwork
    from amc_pruning._plan import PruningPlan

__all__ = ["go_on", "step_counts"]


def step_counts(plan: PruningPlan, candidate: Mapping[str, int]) -> list[dict[str, int]]:
    """Kept channels after each step but the last: every step takes an equal part of what goes. Counts of the first step are
    among the plan's."""
    steps = plan.settings.steps
    found = []
    for number in range(1, steps):
        counts = {}
        for variable in plan.variables:
            goal = candidate[variable.name]
            wanted = goal + round((variable.full - goal) * (steps - number) / steps)
            counts[variable.name] = min(one for one in variable.choices if one >= wanted) if number == 1 else wanted
        found.append(counts)
    return found


def go_on(
    plan: PruningPlan, network: ReconstructedNetwork, removed: Tensor, counts: Mapping[str, int]
) -> tuple[ReconstructedNetwork, Tensor]:
    """A refitted network pruned further, down to `counts`, by errors against its own responses.

    A layer that was just fitted responds with the projection of its target on its inputs: errors against its own responses
    rise exactly as those against the target do.

    Args:
        removed: the channel ids of `plan.channels` that `network` is without.

    Returns: the network, every constant in a bias, and all that is removed now.
    """
    settings = plan.settings
    channels = channel_map(network)
    before = _ids_before(plan.channels, channels, removed)
    owner = {int(one): name for name, order in plan.orders.items() for one in order}
    ids: dict[str, Tensor] = {}
    for group in channels.groups:
        name = owner.get(int(before[group.ids[0]]))
        if name is not None and counts[name] < len(group.ids):
            ids[name] = group.ids
    readers = dict.fromkeys(layer for variable in plan.variables if variable.name in ids for layer in variable.layers)
    moments = collect_moments(network, plan.calibration, readers, per_sample=settings.sampled_pixels_per_img, seed=plan.seed)
    consumers = {name: Consumer.of(channels, one, settings.ridge) for name, one in moments.items()}
    gone = [torch.zeros(0, dtype=torch.long)]
    for variable in plan.variables:
        if variable.name in ids:
            order = keep_order(
                settings.selection,
                [consumers[layer] for layer in variable.layers],
                ids[variable.name],
                keep=counts[variable.name],
                seed=plan.seed,
                name=variable.name,
                alpha=settings.lars_alpha_init,
            )
            gone.append(order[counts[variable.name] :])
    leaving = torch.cat(gone)
    smaller = channels.shrink(leaving)
    for layer, consumer in consumers.items():
        fitted = fit_kept(consumer, leaving, network.layer(layer).get_parameter("weight").dtype)
        rows = kept_rows(channels, layer, leaving)
        install(smaller, layer, fitted.weight[rows], fitted.bias[rows])
    return smaller, torch.cat([removed, before[leaving]]).sort().values


def _ids_before(original: ChannelMap, smaller: ChannelMap, removed: Tensor) -> Tensor:
    """For each channel id of a network without the channels `removed` of another: its id there, -1 for ids of no producer."""
    found = torch.full((1 + max(int(ids.max()) for ids in smaller.outputs.values()),), -1, dtype=torch.long)
    for layer, ids in smaller.outputs.items():
        old = original.outputs[layer]
        found[ids] = old[~torch.isin(old, removed)]
    return found
