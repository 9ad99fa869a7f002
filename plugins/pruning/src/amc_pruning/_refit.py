"""After the choice: fitting the pruned network layer by layer on its own activations, then its batch norms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from amc_plugins.compression import install, linear_at, nearest_weights, refit_sequentially, renewed, response_targets
from amc_pruning._problems import threads_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from amc_plugins.compression import Calibration, Moments
    from amc_plugins.graph import ChannelMap, ReconstructedNetwork

__all__ = ["refit"]


def refit(
    channels: ChannelMap,
    pruned: ReconstructedNetwork,
    calibration: Calibration,
    changed: Iterable[str],
    removed: Tensor,
    *,
    ridge: float,
    per_sample: int | None,
    norm_update: bool,
    seed: int,
) -> tuple[ReconstructedNetwork, dict[str, float]]:
    """Fit `pruned` in running order: inputs from itself, targets from the original. Returns the network and errors by layer.

    Every fitted layer has a bias afterwards.
    """
    original = channels.network
    targets = response_targets(channels, changed, removed)
    errors: dict[str, float] = {}

    def fit(layer: str, moments: Moments) -> Mapping[str, nn.Module]:
        linear = linear_at(pruned, layer)
        with threads_for(linear.weight.shape[1]):
            weight, constant, errors[layer] = nearest_weights(moments, linear.weight, linear.groups, ridge)
        install(pruned, layer, weight, constant)
        return {}

    refit_sequentially(original, pruned, calibration, targets, fit, per_sample=per_sample, seed=seed, noted=errors)
    return (renewed(original, pruned, calibration, targets) if norm_update else pruned), errors
