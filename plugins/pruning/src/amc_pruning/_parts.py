"""What can be pruned of a network: one part per choice, which layers read it, and why the rest stays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amc_plugins.compression import MEMORY, LayerView, Variable, linear_at, moments_bytes
from amc_plugins.graph import ChannelGroup, ChannelMap, handler_for

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.graph import ReconstructedNetwork

__all__ = ["Part", "admissible_counts", "features_of", "layer_views", "parts_of", "readers_of", "rounding"]


@dataclass(frozen=True)
class Part:
    """Channels chosen together, and the layers that then read fewer: a whole channel group, or one reader of a shared group."""

    name: str
    ids: Tensor
    """Channel ids, ascending."""
    layers: tuple[str, ...]
    sampled: bool = False
    """The channels stay in the network; a sampler picks what the (one) layer reads."""


def parts_of(channels: ChannelMap, shared_inputs: str) -> tuple[list[Part], dict[str, str]]:
    """The parts in running order, and per group that gives none the reason."""
    parts: list[Part] = []
    reasons: dict[str, str] = {}
    for group in channels.groups:
        reason = _why_not(channels.network, group)
        shared = len(group.producers) > 1
        if reason is None and shared and shared_inputs == "skip":
            reason = f"made by {len(group.producers)} layers together (`shared_inputs` is `skip`)"
        if reason is not None:
            reasons[group.name] = reason
        elif shared and shared_inputs == "sample":
            found = [layer for layer in group.consumers if _can_sample(channels, layer, group)]
            parts += [Part(f"{layer}.sampler", group.ids, (layer,), sampled=True) for layer in found]
            if not found:
                reasons[group.name] = "no layer that reads it can have a sampler"
        else:
            parts.append(Part(group.name, group.ids, group.consumers))
    return parts, reasons


def _why_not(network: ReconstructedNetwork, group: ChannelGroup) -> str | None:
    if group.pinned:
        return "; ".join(group.pinned)
    if not group.consumers:
        return "nothing with weights reads its channels"
    for layer in group.consumers:
        linear = handler_for(network.nodes_of(layer)[0].op).linear(network.layer(layer))
        if linear is None:
            return f"read by `{layer}` ({network.nodes_of(layer)[0].op}), which is no linear map of patches"
        if (size := moments_bytes(linear)) > MEMORY:
            return f"read by `{layer}`, whose statistics take {size / 2**30:.1f} GiB, above the cap of {MEMORY / 2**30:.0f} GiB"
    return "it has one channel" if len(group) == 1 else None


def _can_sample(channels: ChannelMap, layer: str, group: ChannelGroup) -> bool:
    """Whether a gather on axis 1 before the layer can pick channels of the group: one call, no other channels, no groups."""
    nodes = channels.network.nodes_of(layer)
    linear = linear_at(channels.network, layer)
    rank = len(channels.shapes[nodes[0].inputs[0]])
    whole = set(channels.inputs[layer].tolist()) == set(group.ids.tolist())
    return len(nodes) == 1 and linear.groups == 1 and whole and linear.input_axis % rank == 1


def admissible_counts(full: int, step: int, keep_at_least: float) -> tuple[int, ...]:
    """Multiples of `step` from the least share on, and all of the channels."""
    least = max(1, math.ceil(keep_at_least * full - 1e-9))
    return (*range(-(-least // step) * step, full, step), full)


def rounding(channels: ChannelMap, part: Part, round_to: int) -> int:
    """The smallest n such that keeping a multiple of n of the part's channels keeps, in every layer that makes or reads them,
    a multiple of `round_to`: in a convolution of four groups, one of these stands for a channel in each.
    """
    if part.sampled:
        return round_to
    times = {int((ids == part.ids[0]).sum()) for table in (channels.inputs, channels.outputs) for ids in table.values()} - {0}
    return math.lcm(*(round_to // math.gcd(round_to, one) for one in times))


def readers_of(parts: Sequence[Part]) -> dict[str, list[str]]:
    """Per layer: the parts it reads."""
    found: dict[str, list[str]] = {}
    for part in parts:
        for layer in part.layers:
            found.setdefault(layer, []).append(part.name)
    return found


def features_of(channels: ChannelMap, part: Part, index: int, macs: Mapping[str, int]) -> dict[str, float]:
    """What describes a part to a search: its first layer, and the MACs of all."""
    network = channels.network
    node = network.nodes_of(part.layers[0])[0]
    linear = linear_at(network, node.layer)
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
        "consumers": float(len(part.layers)),
        "macs": float(sum(macs.get(one.name, 0) for layer in part.layers for one in network.nodes_of(layer))),
    }


def layer_views(
    channels: ChannelMap, variables: Sequence[Variable], reasons: Mapping[str, str], macs: Mapping[str, int]
) -> list[LayerView]:
    """Every linear map of the network, with the variables that its inputs belong to."""
    network = channels.network
    views = []
    for layer in network.layer_names:
        nodes = network.nodes_of(layer)
        if handler_for(nodes[0].op).linear(network.layer(layer)) is None:
            continue
        mine = tuple(variable.name for variable in variables if layer in variable.layers)
        why = None if mine else _reason(channels, layer, reasons)
        views.append(LayerView(layer, nodes[0].op, sum(macs.get(node.name, 0) for node in nodes), mine, why))
    return views


def _reason(channels: ChannelMap, layer: str, reasons: Mapping[str, str]) -> str:
    if layer not in channels.outputs:
        return "its channels follow those of its input"
    groups = [group for group in channels.groups if layer in group.consumers]
    found = [f"{group.name}: {reasons.get(group.name, 'nothing applies to this layer alone')}" for group in groups]
    return "; ".join(found) or "its input comes from outside the network"
