"""The oracle of channel removal: the network masked to what a removal implies equals the shrunk network.

Masked means: whatever a node reads of a removed channel is zero. That is exactly what a consumer computes when the
channel does not exist, whatever handlers claim, so the comparison finds wrong `channels` and wrong `keep` alike. It
runs in float64: a batch norm left in training mode is off by 1e-4 and would pass for rounding in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amc_plugins.graph import ChannelMap, ReconstructedNetwork, Step, channel_map
from amc_plugins.testing.rebuilt import floats_as, tensors_of_tree

__all__ = ["assert_masked_equals_shrunk", "masked_outputs", "random_removal"]


def random_removal(channels: ChannelMap, *, share: float = 0.5, seed: int = 0) -> Tensor:
    """Ids of a random choice of channels: in every group that is not pinned, about `share` of them, never all."""
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for group in channels.groups:
        if not group.pinned:
            order = torch.randperm(len(group), generator=generator)
            chosen.append(group.ids[order[: min(round(share * len(group)), len(group) - 1)]])
    return torch.cat(chosen) if chosen else torch.zeros(0, dtype=torch.long)


def masked_outputs(channels: ChannelMap, removed: Tensor, inputs: Sequence[Any]) -> list[Tensor]:
    """The outputs of the whole network when every node reads zeros in place of removed channels."""
    network = channels.network
    stays = torch.ones(int(max(int(ids.max()) for ids in channels.values.values())) + 1, dtype=torch.bool)
    stays[removed] = False

    def mask(step: Step) -> None:
        for index, (name, value) in enumerate(zip(step.node.inputs, step.inputs, strict=True)):
            if name in channels.values and isinstance(value, Tensor) and value.is_floating_point():
                step.inputs[index] = torch.where(stays[channels.values[name]].to(value.device), value, torch.zeros_like(value))

    return tensors_of_tree(network, inputs, around=mask)


def assert_masked_equals_shrunk(
    network: ReconstructedNetwork, *inputs: Any, removed: Tensor | None = None, seed: int = 0, tolerance: float = 1e-10
) -> ReconstructedNetwork:
    """Shrink a float64 copy of `network` in eval mode and compare it with the masked network; returns the shrunk copy.

    Args:
        network: any captured network; not changed.
        inputs: example inputs; the batch size must be the one that the channel map is made for (any, when the batch is open).
        removed: ids of `channel_map(network)`; default a random half of every group that can be removed.
        seed: of that choice.
        tolerance: largest absolute difference, relative to the largest output entry when that is above one.

    Raises:
        AssertionError: the outputs differ.
    """
    exact = network.clone().double().eval()
    exact_inputs = floats_as(inputs, torch.float64)
    channels = channel_map(exact)
    chosen = random_removal(channels, seed=seed) if removed is None else removed
    expected = masked_outputs(channels, chosen, exact_inputs)
    smaller = channels.shrink(chosen)
    given = tensors_of_tree(smaller, exact_inputs)
    assert len(expected) == len(given)
    for index, (a, b) in enumerate(zip(expected, given, strict=True)):
        assert a.shape == b.shape, f"output {index}: masked {tuple(a.shape)}, shrunk {tuple(b.shape)}"
        worst = float((a - b).abs().max()) if a.numel() else 0.0
        bound = tolerance * max(1.0, float(a.abs().max()) if a.numel() else 1.0)
        assert worst <= bound, f"output {index}: the masked and the shrunk network differ by {worst:.3e}"
    return smaller
