"""Channel pruning without reconstruction: what a method must beat after the same fine-tune.

Every group of channels that may be pruned keeps the same share, and the weights that stay are left as they are. `random`
draws the channels; `l2` keeps those with the largest mean squared weight, over all layers that make or read them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from amc_plugins.graph import ChannelGroup, ChannelMap, ReconstructedNetwork, ShrinkCost, channel_map

__all__ = ["BASELINES", "pruned"]

BASELINES = ("random", "l2")


def pruned(network: ReconstructedNetwork, rule: str, *, total: float, seed: int = 0) -> ReconstructedNetwork:
    """`network` without the share `total` of its MACs (the smallest uniform share of channels that removes as much)."""
    channels = channel_map(network)
    groups = [group for group in channels.groups if not group.pinned and len(group) > 1]
    cost = ShrinkCost(network, channels)
    budget = (1.0 - total) * cost.macs({})

    def kept(share: float) -> dict[str, int]:
        return {group.name: max(1, round((1.0 - share) * len(group))) for group in groups}

    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if cost.macs(kept(middle)) <= budget else (middle, high)
    generator = torch.Generator().manual_seed(seed)
    removed = []
    for group in groups:
        scores = torch.rand(len(group), generator=generator) if rule == "random" else _importance(channels, group)
        removed.append(group.ids[scores.argsort(descending=True)[kept(high)[group.name] :]])
    return channels.shrink(torch.cat(removed).sort().values)


def _importance(channels: ChannelMap, group: ChannelGroup) -> Tensor:
    """Mean over the layers that make or read the channels of their squared weights, each relative to its layer's mean."""
    scores: list[Tensor] = []
    for layers, ids_of, axis in ((group.producers, channels.outputs, 0), (group.consumers, channels.inputs, 1)):
        for layer in layers:
            weight = channels.network.layer(layer).get_parameter("weight").detach()
            squares = weight.square().transpose(0, axis).flatten(1).mean(1)
            ids = ids_of[layer]
            if len(squares) == len(ids):
                per_channel = torch.stack([squares[ids == one].mean() for one in group.ids])
                scores.append(per_channel / per_channel.mean())
    return torch.stack(scores).mean(0)
