"""Multiply-adds: of a network as it is (`profile`), and of what a removal of channels would leave (`ShrinkCost`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from amc_plugins.core.channels import ChannelMap, channel_map
from amc_plugins.core.describe import plain_params, typed_params
from amc_plugins.core.document import Node
from amc_plugins.core.errors import GraphError
from amc_plugins.core.intrinsics import INTS, OPAQUE
from amc_plugins.core.network import ReconstructedNetwork, handler_for
from amc_plugins.core.shapes import on_meta, shapes
from amc_plugins.core.shrink import keep_layer, kept_of
from amc_plugins.handlers import Kept, Shape

__all__ = ["Profile", "Row", "ShrinkCost", "affordable_samples", "node_macs", "profile", "showFMLAs"]


@dataclass(frozen=True)
class Row:
    """One node. `macs` is None when the op does not know them (opaque nodes)."""

    name: str
    layer: str
    op: str
    type: str
    macs: int | None
    parameters: int
    output_shapes: tuple[Shape, ...]
    source: str | None

    @property
    def output_shape(self) -> Shape:
        return self.output_shapes[0] if self.output_shapes else ()

    @property
    def activations(self) -> int:
        """Entries of all outputs."""
        return sum(int(torch.Size(shape).numel()) for shape in self.output_shapes)

    def as_data(self) -> dict[str, Any]:
        """What results and tables keep of it, as JSON data."""
        names = ("name", "layer", "op", "type", "macs", "parameters")
        return {**{name: getattr(self, name) for name in names}, "output_shape": list(self.output_shape)}


@dataclass(frozen=True)
class Profile:
    """The cost of one forward, node by node, on inputs of the shapes profiled (batch included)."""

    rows: tuple[Row, ...]

    @property
    def total_macs(self) -> int:
        """Of all nodes whose MACs are known; `unknown` names the others."""
        return sum(row.macs or 0 for row in self.rows)

    @property
    def total_parameters(self) -> int:
        return sum({row.layer: row.parameters for row in self.rows}.values())

    @property
    def total_activations(self) -> int:
        return sum(row.activations for row in self.rows)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Nodes whose MACs are unknown."""
        return tuple(row.name for row in self.rows if row.macs is None)

    def row(self, name: str) -> Row:
        """The row of a node. Raises `GraphError` when there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise GraphError(f"there is no node `{name}` in this profile")


def profile(network: ReconstructedNetwork, *inputs: Any) -> Profile:
    """MACs, parameters and activation sizes per node, for inputs of these shapes (default: the captured shapes, one sample).

    Convolutions, transposed convolutions, linear layers, products of matrices and attention count one MAC per multiplication
    that is added up, half of what `torch.utils.flop_counter` counts; everything else counts none. Nothing is
    computed: layers run on the meta device.
    """
    found = shapes(network, *inputs)
    rows = []
    for node in network.graph.nodes:
        module = network.layer(node.layer)
        outputs = tuple(found[name] for name in node.outputs if name in found)
        parameters = sum(one.numel() for one in module.parameters())
        kind = getattr(module, "target", "opaque") if node.op == OPAQUE else type(module).__name__
        rows.append(Row(node.name, node.layer, node.op, kind, node_macs(node, found), parameters, outputs, node.source))
    return Profile(tuple(rows))


def affordable_samples(network: ReconstructedNetwork, runs: int, *, work: float, fewest: int, most: int) -> int:
    """How many samples a measurement of `runs` forwards may take, for `work` MACs in all: from `fewest` to `most`."""
    each = runs * profile(network).total_macs
    return most if each * most <= work else max(fewest, int(work // each))


def node_macs(node: Node, found: Mapping[str, Shape]) -> int | None:
    """MACs of one node for the given shapes of values."""
    if node.op in INTS:
        return 0
    inputs = [found[name] for name in node.inputs if name in found]
    if node.op == OPAQUE:
        return None
    return handler_for(node.op).macs(typed_params(node), inputs, [found[name] for name in node.outputs])


def showFMLAs(network: ReconstructedNetwork, *inputs: Any) -> int:  # noqa: N802 - the source system's name
    """Log the profile as a table and return the total MACs (the source system's floating-point fused multiply-adds)."""
    import logging

    result = profile(network, *inputs)
    logger = logging.getLogger("amc_plugins.profile")
    for row in result.rows:
        logger.info("%-40s %-24s %14s", row.name, row.type, "unknown" if row.macs is None else f"{row.macs:,}")
    logger.info("%-40s %-24s %14s", "total", "", f"{result.total_macs:,}")
    return result.total_macs


class ShrinkCost:
    """Exact MACs of one sample after removing channels, from how many each group keeps. Nothing is built but single
    layers on the meta device, each once per combination of counts.

    Args:
        network: the network as it is.
        channels: its channel map, if it is there already.
    """

    def __init__(self, network: ReconstructedNetwork, channels: ChannelMap | None = None) -> None:
        self.channels = channels or channel_map(network)
        self._meta = on_meta(network)
        self._sizes = {group.name: len(group) for group in self.channels.groups}
        self._nodes: list[tuple[Node, int, tuple[int, ...]]] = []
        self._samples: dict[str, int] = {}
        """Per node: how many times one sample's MACs it costs at the channel map's batch; 1 for what no sample is part of."""
        one_sample = shapes(network)
        for node in network.graph.nodes:
            base, together = node_macs(node, one_sample), node_macs(node, self.channels.shapes)
            if base and together:
                self._samples[node.name] = together // base
                self._nodes.append((node, base, self._touching(node)))
        self._memo: dict[tuple[str, tuple[int, ...]], int] = {}

    def _touching(self, node: Node) -> tuple[int, ...]:
        """Indices of the groups whose channels the node reads or makes."""
        found: set[int] = set()
        for name in (*node.inputs, *node.outputs):
            if name in self.channels.values:
                found.update(self.channels._group_index[self.channels.values[name].unique()].tolist())
        return tuple(sorted(index for index in found if index >= 0 and not self.channels.groups[index].pinned))

    def layer_macs(self, kept: Mapping[str, int]) -> dict[str, int]:
        """MACs per node name. `kept` maps group names to channel counts; groups left out are whole.

        Raises:
            GraphError: a count is not between 1 and the group's size.
        """
        for name, count in kept.items():
            if name not in self._sizes or not 1 <= count <= self._sizes[name]:
                raise GraphError(
                    f"group `{name}` cannot keep {count} channels; it has {self._sizes.get(name, 'no such group')}"
                )
        groups = self.channels.groups
        result: dict[str, int] = {}
        for node, base, touching in self._nodes:
            counts = tuple(kept.get(groups[index].name, len(groups[index])) for index in touching)
            if all(count == len(groups[index]) for count, index in zip(counts, touching, strict=True)):
                result[node.name] = base
                continue
            key = node.name, counts
            if key not in self._memo:
                self._memo[key] = self._shrunk_macs(node, touching, counts)
            result[node.name] = self._memo[key]
        return result

    def macs(self, kept: Mapping[str, int]) -> int:
        """Total MACs of one sample."""
        return sum(self.layer_macs(kept).values())

    def _shrunk_macs(self, node: Node, touching: tuple[int, ...], counts: tuple[int, ...]) -> int:
        stays = torch.ones(len(self.channels._group_index), dtype=torch.bool)
        for index, count in zip(touching, counts, strict=True):
            stays[self.channels.groups[index].ids[count:]] = False
        kept: dict[str, Kept] = {}
        for name in (*node.inputs, *node.outputs):
            if name in self.channels.values:
                kept[name] = kept_of(name, self.channels.values[name], self.channels.shapes[name], stays)
        handler = handler_for(node.op)
        layer = keep_layer(self._meta.layer(node.layer), node, kept)
        params = handler.Params(**plain_params(handler, layer))
        macs = handler.macs(
            params,
            [kept[name].new_shape for name in node.inputs if name in kept],
            [kept[name].new_shape for name in node.outputs],
        )
        assert macs is not None
        return macs // self._samples[node.name]
