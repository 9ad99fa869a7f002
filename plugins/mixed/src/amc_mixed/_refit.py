"""The final fit: every layer of the pruned and decomposed network, in running order, by least squares on its own activations.

The inner layers of chains have no counterpart in the original. Their targets are what the same layers make of the whole
network's activations: side branches of a teacher, which else is the reference network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from amc_mixed._chains import chain_names
from amc_plugins.compression import (
    Target,
    absorb_biases,
    install,
    linear_at,
    nearest_weights,
    refit_sequentially,
    renewed,
    response_targets,
)
from amc_plugins.graph import ReconstructedNetwork

if TYPE_CHECKING:
    from torch import nn

    from amc_mixed._plan import MixedPlan
    from amc_plugins.compression import Moments

__all__ = ["refit", "teacher"]


def teacher(reference: ReconstructedNetwork, decomposed: ReconstructedNetwork, layers: Sequence[str]) -> ReconstructedNetwork:
    """The reference network, with all but the last layer of each chain of `decomposed` beside the layer it stands for.

    Nothing reads these values: they are targets.
    """
    graph = reference.graph.model_copy(deep=True)
    modules = {name: reference.layer(name) for name in reference.layer_names}
    for layer in layers:
        place = next(index for index, node in enumerate(graph.nodes) if node.layer == layer)
        inner = chain_names(decomposed, layer)[:-1]
        beside = [decomposed.nodes_of(name)[0].model_copy(deep=True) for name in inner]
        graph.nodes[place:place] = beside
        modules |= {name: decomposed.layer(name) for name in inner}
    return ReconstructedNetwork(graph, modules).eval()


def refit(
    plan: MixedPlan, network: ReconstructedNetwork, pruned: Mapping[str, int], split: Mapping[str, int]
) -> tuple[ReconstructedNetwork, dict[str, float]]:
    """`network` (changed) fitted, and relative errors by layer of the original.

    Args:
        pruned: the pruning plan's candidate.
        split: the choices of the layers that are decomposed.
    """
    reference = plan.channels.network
    original = teacher(reference.clone(), plan.decomposed(split), list(split))
    removed = plan.prune.removed_channels(pruned)
    changed = [layer for layer in plan.linear_layers if _differs(reference, network, layer)]
    wanted = response_targets(plan.channels, changed, removed)
    targets: dict[str, Target] = {}
    responding: dict[str, Target] = {}
    origin: dict[str, str] = {}
    for layer, target in wanted.items():
        names = chain_names(network, layer)
        for name in names[:-1]:
            targets[name] = Target(original.nodes_of(name)[0].outputs[0])
        targets[names[-1]] = responding[names[-1]] = target
        origin[names[-1]] = layer
    errors: dict[str, float] = {}

    def fit(layer: str, moments: Moments) -> Mapping[str, nn.Module]:
        linear = linear_at(network, layer)
        weight, constant, error = nearest_weights(moments, linear.weight, linear.groups, plan.settings.ridge)
        if layer in responding:
            install(network, layer, weight, constant)
            errors[origin[layer]] = error
            return {}
        # the constant part of an inner layer is the next layer's to fit
        return {layer: linear.rebuilt(weight.to(linear.weight.dtype), None)}

    refit_sequentially(
        original,
        network,
        plan.calibration,
        targets,
        fit,
        per_sample=plan.settings.sampled_pixels_per_img,
        seed=plan.seed,
        noted=errors,
    )
    if plan.settings.norm_update:
        network = renewed(reference, network, plan.calibration, responding)
    absorb_biases(reference, network, [layer for layer in wanted if layer in network.layer_names])
    return network, errors


def _differs(reference: ReconstructedNetwork, network: ReconstructedNetwork, layer: str) -> bool:
    """Whether a layer is decomposed or reads fewer channels."""
    names = chain_names(network, layer)
    return len(names) > 1 or linear_at(network, layer).weight.shape[1] < linear_at(reference, layer).weight.shape[1]
