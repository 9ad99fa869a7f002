"""The compressor: which channel groups can be pruned, their orders, curves and weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from amc_plugins.compression import (
    Calibration,
    Compressor,
    Evaluate,
    LayerMoments,
    LayerView,
    Plan,
    ShrinkCost,
    Variable,
    collect_moments,
)
from amc_plugins.graph import ChannelGroup, ChannelMap, ReconstructedNetwork, channel_map, handler_for
from amc_pruning._cost import CandidateCost
from amc_pruning._curves import NestedFit, nested_fit
from amc_pruning._install import linear_of
from amc_pruning._plan import PruningPlan
from amc_pruning._problems import Consumer, norm_scale, ridge_of
from amc_pruning._selection import keep_order
from amc_pruning.plugin import PruningSettings

__all__ = ["Pruning", "admissible_counts"]

_CHOICES = 64
"""Counts per group at most; wider groups have them at even steps."""
_STORED = 1 << 30
"""Bytes of weights that a plan may store; where that is not enough, the steps between counts grow."""
_KEPT_DATA = 512 << 20
"""Bytes of calibration data that a plan keeps for its refit."""

_log = logging.getLogger(__name__)


class Pruning(Compressor):
    """Removes channels that the layers reading them can do without, and fits those layers' weights to make up for them.

    He, Zhang and Sun, *Channel Pruning for Accelerating Very Deep Neural Networks*, ICCV 2017; by default with exact backward
    elimination in place of LASSO.
    """

    Settings = PruningSettings
    settings: PruningSettings

    def prepare(
        self,
        network: ReconstructedNetwork,
        calibration: Iterable[Any],
        *,
        seed: int,
        evaluate: Evaluate | None = None,
        budget: float | None = None,
        run: Any = None,
    ) -> Plan:
        settings = self.settings
        network = network.clone()
        data = Calibration.of(calibration, trainset_ratio=settings.trainset_ratio, seed=seed)
        channels = channel_map(network)
        reasons = {group.name: self._why_not(network, group) for group in channels.groups}
        groups = [group for group in channels.groups if reasons[group.name] is None]
        readers = _readers(channels, groups)
        moments = collect_moments(network, data, readers, per_sample=settings.sampled_pixels_per_img, seed=seed)
        consumers = {name: _consumer(network, channels, one, settings.ridge) for name, one in moments.items()}
        counts = self._counts(groups, channels, readers)
        groups = [group for group in groups if len(counts[group.name]) > 1]
        readers = _readers(channels, groups)

        orders: dict[str, Tensor] = {}
        nested: dict[str, tuple[str, NestedFit]] = {}
        variables: list[Variable] = []
        macs = ShrinkCost(network, channels)
        per_node = macs.layer_macs({})
        for index, group in enumerate(groups):
            mine = [consumers[name] for name in group.consumers]
            order = keep_order(
                settings.selection,
                mine,
                group.ids,
                keep=counts[group.name][0],
                seed=seed,
                name=group.name,
                alpha=settings.lars_alpha_init,
            )
            orders[group.name] = order
            errors = torch.zeros(len(counts[group.name]), dtype=torch.float64)
            for consumer in mine:
                dtype = network.layer(consumer.name).get_parameter("weight").dtype
                fitted = nested_fit(consumer, order, counts[group.name], dtype)
                errors += torch.tensor(fitted.errors, dtype=torch.float64)
                if len(readers[consumer.name]) == 1:
                    nested[consumer.name] = (group.name, fitted)
            errors[-1] = 0.0
            curve = tuple(errors.flip(0).cummax(0).values.flip(0).tolist())
            features = _features(network, channels, group, index, per_node)
            variables.append(
                Variable(group.name, group.consumers, counts[group.name], len(group), "channels", curve, features)
            )
            _log.debug("%s: %d channels read by %s", group.name, len(group), ", ".join(group.consumers))
        joint = {name: (tuple(owners), consumers[name]) for name, owners in readers.items() if len(owners) > 1}
        cost = CandidateCost(macs, variables)
        views = _views(network, channels, variables, reasons, per_node)
        return PruningPlan(
            network, _bounded(data), self, seed, settings, channels, variables, views, orders, nested, joint, cost
        )

    def _why_not(self, network: ReconstructedNetwork, group: ChannelGroup) -> str | None:
        if group.pinned:
            return "; ".join(group.pinned)
        if not group.consumers:
            return "nothing with weights reads its channels"
        for layer in group.consumers:
            if handler_for(network.nodes_of(layer)[0].op).linear(network.layer(layer)) is None:
                return f"read by `{layer}` ({network.nodes_of(layer)[0].op}), which is no linear map of patches"
        if len(group) == 1:
            return "it has one channel"
        if self.settings.shared_inputs == "skip" and len(group.producers) > 1:
            return f"made by {len(group.producers)} layers together (`shared_inputs` is `skip`)"
        return None

    def _counts(
        self, groups: Sequence[ChannelGroup], channels: ChannelMap, readers: Mapping[str, Sequence[str]]
    ) -> dict[str, tuple[int, ...]]:
        """Admissible counts per group, as dense as the bound on stored weights allows."""
        settings = self.settings
        steps = {group.name: -(-len(group) // (_CHOICES * settings.round_to)) * settings.round_to for group in groups}

        def made(group: ChannelGroup) -> tuple[int, ...]:
            return admissible_counts(len(group), steps[group.name], settings.keep_at_least)

        def stored(group: ChannelGroup) -> int:
            share = sum(made(group)) / len(group)
            layers = [name for name in group.consumers if len(readers[name]) == 1]
            sizes = [channels.network.layer(name).get_parameter("weight") for name in layers]
            return int(share * sum(one.nbytes for one in sizes))

        while sum(stored(group) for group in groups) > _STORED:
            largest = max(groups, key=stored)
            if len(made(largest)) <= 8:
                break
            steps[largest.name] *= 2
        return {group.name: made(group) for group in groups}


def admissible_counts(full: int, step: int, keep_at_least: float) -> tuple[int, ...]:
    """Multiples of `step` from the least share on, and all of the channels."""
    least = max(1, math.ceil(keep_at_least * full - 1e-9))
    return (*range(-(-least // step) * step, full, step), full)


def _readers(channels: ChannelMap, groups: Sequence[ChannelGroup]) -> dict[str, list[str]]:
    """Per layer that reads channels of `groups`: those groups."""
    found: dict[str, list[str]] = {}
    for group in groups:
        for layer in group.consumers:
            found.setdefault(layer, []).append(group.name)
    return found


def _consumer(network: ReconstructedNetwork, channels: ChannelMap, moments: LayerMoments, ridge: float) -> Consumer:
    metric = norm_scale(network, moments.name, moments.out_channels).to(moments.weight.device)
    return Consumer(moments.name, moments, channels.inputs[moments.name], metric, ridge_of(moments, ridge))


def _features(
    network: ReconstructedNetwork, channels: ChannelMap, group: ChannelGroup, index: int, macs: Mapping[str, int]
) -> dict[str, float]:
    """What describes a group to a search: of its first consumer, and MACs of all."""
    node = network.nodes_of(group.consumers[0])[0]
    linear = linear_of(network, node.layer)
    stride = getattr(network.layer(node.layer), "stride", 1)
    shape = channels.shapes[node.inputs[0]]
    spatial = shape[2:] if linear.input_axis == 1 else ()
    return {
        "index": float(index),
        "in_channels": float(linear.in_channels),
        "out_channels": float(linear.out_channels),
        "height": float(spatial[0]) if spatial else 1.0,
        "width": float(spatial[-1]) if spatial else 1.0,
        "stride": float(stride[0] if isinstance(stride, tuple) else stride),
        "kernel": math.sqrt(linear.taps),
        "consumers": float(len(group.consumers)),
        "macs": float(sum(macs.get(one.name, 0) for layer in group.consumers for one in network.nodes_of(layer))),
    }


def _views(
    network: ReconstructedNetwork,
    channels: ChannelMap,
    variables: Sequence[Variable],
    reasons: Mapping[str, str | None],
    macs: Mapping[str, int],
) -> list[LayerView]:
    """Every linear map of the network, with the variables that its inputs belong to."""
    views = []
    for layer in network.layer_names:
        nodes = network.nodes_of(layer)
        if handler_for(nodes[0].op).linear(network.layer(layer)) is None:
            continue
        mine = tuple(variable.name for variable in variables if layer in variable.layers)
        why = None if mine else _reason(channels, layer, reasons)
        views.append(LayerView(layer, nodes[0].op, sum(macs.get(node.name, 0) for node in nodes), mine, why))
    return views


def _reason(channels: ChannelMap, layer: str, reasons: Mapping[str, str | None]) -> str:
    if layer not in channels.outputs:
        return "its channels follow those of its input"
    found: list[str] = []
    for group in channels.groups:
        if layer in group.consumers and reasons[group.name] is not None:
            found.append(f"{group.name}: {reasons[group.name]}")
    return "; ".join(found) or "its input comes from outside the network"


def _bounded(data: Calibration) -> Calibration:
    return data if data.bytes <= _KEPT_DATA else data.subset(max(1, len(data) * _KEPT_DATA // data.bytes))
