"""Channel identity: which channels live and die together, computed by pushing integer ids through the graph.

Every producer's output channel gets an id; handlers say what their op does to id tensors; ids that lie on each other
are united. What reaches an output or an opaque node is pinned with its reason. Id tensors have the shapes of their
values on stride-0 views, so memory is what ops lay out: at most the entries of the largest value whose channel axis
is merged with another (a flatten), once per such op. The entries of a constant have ids of their own until it is laid on
something.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from amc_plugins.core.describe import typed_params
from amc_plugins.core.document import Node, tree_leaves
from amc_plugins.core.errors import GraphError
from amc_plugins.core.incidence import Incidence, distinct, united
from amc_plugins.core.intrinsics import INT, OPAQUE, REQUIRE, SIZE
from amc_plugins.core.network import ReconstructedNetwork, handler_for
from amc_plugins.core.shapes import shapes
from amc_plugins.handlers import ChannelIds, LayerHandler, Shape, broadcast_shape

BATCH = 2
"""Channel maps are made for two samples where the batch is open: a batch of one hides behind `squeeze` and broadcasting."""

__all__ = ["BATCH", "ChannelGroup", "ChannelMap", "channel_groups", "channel_map", "compact", "varies"]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels with the same fate: made by the same layers, read by the same layers, part of the same values.

    One of each group always stays, so no value (no piece of a split) ever loses all its channels.
    """

    name: str
    """The first producer's layer name (with `#n` when a layer makes several groups)."""
    ids: Tensor
    """Channel ids (k,), ascending: each is removed or kept as a whole."""
    producers: tuple[str, ...]
    """Layers that make these channels."""
    consumers: tuple[str, ...]
    """Layers that read them and make new channels."""
    followers: tuple[str, ...]
    """Layers that own per-channel tensors for them and pass them on (batch norm, depthwise convolution)."""
    pinned: tuple[str, ...]
    """Why none of these can be removed; empty when they can."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class ChannelMap:
    """The channels of one network, by layer and by group."""

    network: ReconstructedNetwork
    groups: list[ChannelGroup]
    inputs: dict[str, Tensor]
    """Per layer that indexes its input by channel: the channel id of each position (c,)."""
    outputs: dict[str, Tensor]
    """Per producer: the channel id of each channel it makes (n,)."""
    values: dict[str, Tensor]
    """Per tensor value: its channel ids on broadcast views, compacted (size 1 where they do not vary)."""
    shapes: dict[str, Shape]
    pins: dict[str, Tensor]
    """Why channels stay -> their ids: those of groups, and those that no layer makes."""
    _group_index: Tensor = field(repr=False)

    def group_of(self, channel_id: int) -> ChannelGroup:
        """The group of a channel id. Raises `GraphError` for an id that no producer made."""
        index = int(self._group_index[channel_id])
        if index < 0:
            raise GraphError(f"channel id {channel_id} belongs to no producer")
        return self.groups[index]

    def group(self, name: str) -> ChannelGroup:
        """The group of that name. Raises `GraphError` when there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise GraphError(f"there is no channel group `{name}`; there are {[group.name for group in self.groups]}")

    def shrink(self, removed: Tensor | Sequence[int], *, verify: bool = True) -> ReconstructedNetwork:
        """A new network without the channels in `removed` (ids). See `amc_plugins.core.shrink.shrink`."""
        from amc_plugins.core.shrink import shrink

        return shrink(self, torch.as_tensor(removed, dtype=torch.long), verify=verify)


def compact(ids: Tensor) -> Tensor:
    """The tensor with size 1 on every axis that is a broadcast (stride 0)."""
    strides = ids.stride()
    if 0 not in strides:
        return ids
    sizes = list(ids.shape)
    for axis, stride in enumerate(strides):
        if stride == 0 and sizes[axis] > 1:
            sizes[axis] = 1
    return ids.as_strided(sizes, strides, ids.storage_offset())


def _padded(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + tuple(shape)


def varies(ids: Tensor, axis: int) -> bool:
    """Whether the ids differ along an axis."""
    return ids.shape[axis] > 1 and not torch.equal(ids, ids.narrow(axis, 0, 1).expand_as(ids))


def _changes(laid: npt.NDArray[np.int64], axis: int) -> int:
    """How often the ids on `axis` change from one position to the next."""
    rows = laid.swapaxes(0, axis)
    return int(np.count_nonzero((rows[1:] != rows[:-1]).reshape(len(rows) - 1, -1).any(1)))


class _Ids(ChannelIds):
    """The verbs, collecting edges and pins. One instance serves a whole graph; `at` points it at a node."""

    def __init__(self) -> None:
        self.count = 0
        self.edges: list[npt.NDArray[np.int64]] = []
        self.hung: list[tuple[int, npt.NDArray[np.int64]]] = []
        """The first of a row of ids, and what they hang on, see `united`: edges that need no search."""
        self._under: dict[int, Tensor] = {}  # address of ids -> those that they hang on
        self._loose: dict[int, tuple[int, Tensor]] = {}  # address -> ids that hang on none, and the first of them
        self.pins: list[tuple[Tensor, str]] = []
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self._memo: dict[tuple[str, str, int], Tensor] = {}

    def at(self, node: Node, output_shapes: Sequence[Shape]) -> None:
        self.node = node
        self.output_shapes = output_shapes
        self._calls = {"new": 0, "channels": 0}

    def _again(self, verb: str) -> tuple[str, str, int]:
        """A key that is the same for every call of one layer: a layer that runs twice has one set of channels."""
        self._calls[verb] += 1
        return self.node.layer, verb, self._calls[verb]

    def fresh(self, shape: Shape) -> Tensor:
        """An id of its own for every entry."""
        size = prod(shape)
        self.count += size
        made = torch.arange(self.count - size, self.count).view(shape)
        self._loose[made.data_ptr()] = self.count - size, made
        return made

    def new(self, n: int, axis: int = 1, output: int = 0) -> Tensor:
        shape = self.output_shapes[output]
        axis %= len(shape)
        if shape[axis] != n:
            raise GraphError(f"`{self.node.op}` announced {n} channels on axis {axis} of an output of shape {shape}")
        key = self._again("new")
        if key not in self._memo:
            self._memo[key] = self.fresh((n,))
            self.outputs.setdefault(self.node.layer, self._memo[key])
        laid = [1] * len(shape)
        laid[axis] = n
        return self._memo[key].reshape(laid).expand(shape)

    def channels(self, ids: Tensor, axis: int) -> Tensor:
        axis %= ids.dim()
        size = ids.shape[axis]
        laid = compact(ids)
        if laid.numel() == laid.shape[axis]:  # they differ along this axis alone
            vector = laid.reshape(-1).expand(size)
        else:
            rows = laid.movedim(axis, 0).flatten(1).expand(size, -1)
            vector = rows[:, 0]
            self._unite(rows[:, :1].expand_as(rows), rows)
        key = self._again("channels")
        earlier = self._memo.setdefault(key, vector)
        if earlier is not vector:
            self._unite(earlier, vector)
        self.inputs.setdefault(self.node.layer, vector)
        return vector

    def tie(self, *ids: Tensor) -> Tensor:
        if len(ids) == 1:
            return ids[0]
        shape = broadcast_shape(*(one.shape for one in ids))
        if shape is None:
            sizes = " and ".join(str(tuple(one.shape)) for one in ids)
            raise GraphError(f"`{self.node.op}` tied ids of the shapes {sizes}, which do not broadcast")
        laid = [compact(one.expand(shape)) for one in ids]
        partners = []
        for one, given in zip(laid, ids, strict=True):
            padded = _padded(given.shape, len(shape))
            stretched = [] if padded == shape else [axis for axis, size in enumerate(shape) if size > 1 and padded[axis] == 1]
            if any(varies(other, axis) for axis in stretched for other in laid if other is not one):
                self.pin(one, f"{self.node.op} spreads one channel over several")
            else:
                partners.append(one)
        best = min(partners or laid, key=lambda one: one.numel())
        for one in partners:
            if one is not best:
                self._unite(best, one)
        return best.expand(shape)

    def pin(self, ids: Tensor, why: str) -> None:
        where = self.node.source
        self.mark(ids, f"{why} at {where}" if where else why)

    def mark(self, ids: Tensor, why: str) -> None:
        """Pin for a reason that is complete as it is."""
        self.pins.append((compact(ids).reshape(-1), why))

    def fixed(self, why: str, output: int = 0) -> Tensor:
        shape = self.output_shapes[output]
        one = self.fresh((1,))
        self.pin(one, why)
        return one.reshape([1] * len(shape)).expand(shape)

    def straight(self, ids: Tensor) -> Tensor:
        laid = compact(ids)
        if laid.numel() == max(laid.shape, default=1):  # one axis at most
            return ids
        entries = laid.numpy()
        changes = {axis: _changes(entries, axis) for axis, size in enumerate(entries.shape) if size > 1}
        # the axis along which ids change most often leaves the finest choice; the usual channel axis among equals
        carrier = max(changes, key=lambda axis: (changes[axis], axis == 1))
        first = self.cut(laid, [axis for axis in range(laid.dim()) if axis != carrier])
        self._unite(first, laid)
        return first.expand(ids.shape)

    def _unite(self, a: Tensor, b: Tensor) -> None:
        """Unite what lies on each other; sizes of 1 are spread."""
        start, _ = self._loose.get(b.data_ptr(), (0, b))
        if b.numel() and b.is_contiguous() and int(a.max()) < start and broadcast_shape(a.shape, b.shape) == b.shape:
            del self._loose[b.data_ptr()]
            self._under[b.data_ptr()] = below = a.expand(b.shape)
            self.hung.append((start, below.numpy().reshape(-1)))
            return
        first, second = np.broadcast_arrays(a.numpy(), b.numpy()) if a.shape != b.shape else (a.numpy(), b.numpy())
        different = first != second
        if different.any():
            self.edges.append(np.stack([first[different], second[different]]))

    def fitted(self, ids: Tensor, shape: Shape) -> Tensor:
        """A handler's answer on its output's shape: sizes may change on axes along which ids do not vary (pooling,
        resizing).
        """
        if tuple(ids.shape) == shape:
            return ids
        if ids.dim() == len(shape):
            laid = compact(ids)
            for axis in range(len(shape)):
                if laid.shape[axis] not in (1, shape[axis]) and not varies(laid, axis):
                    laid = laid.narrow(axis, 0, 1)
            if all(have in (1, want) for have, want in zip(laid.shape, shape, strict=True)):
                return laid.expand(shape)
        self.pin(ids, f"{self.node.op} moves channels in a way that its handler does not describe")
        return self.pinned(shape, f"made by {self.node.op} at {self.node.source or self.node.name}")

    def pinned(self, shape: Shape, why: str) -> Tensor:
        """Ids for a value whose channels must all stay."""
        one = self.fresh((1,))
        self.mark(one, why)
        return one.reshape([1] * len(shape)).expand(shape)

    def below(self, ids: Tensor) -> Tensor:
        """The ids that these hang on, entry by entry, where that is known: often broadcast where these are laid out."""
        found = self._under.get(ids.data_ptr())
        if found is None or not ids.is_contiguous():
            return ids
        found = found[(0,) * (found.dim() - ids.dim())]
        return found if found.shape == ids.shape else ids

    def classes(self) -> npt.NDArray[np.int64]:
        """The class of each id: the smallest id united with it."""
        edges = np.concatenate(self.edges, axis=1) if self.edges else np.zeros((2, 0), dtype=np.int64)
        return united(edges[0], edges[1], max(self.count, 1), self.hung)


def channel_map(network: ReconstructedNetwork) -> ChannelMap:
    """Push ids through the graph and unite what lies on each other.

    Raises:
        UnsupportedOpError: a node's handler is not installed.
        GraphError: a handler announced channels that do not fit its output.
    """
    typed: dict[str, Any] = {}
    found = shapes(network, *network.example_inputs(batch=BATCH), typed=typed)
    handlers: dict[str, LayerHandler] = {}
    ids = _Ids()
    values: dict[str, Tensor] = {}
    for spec in network.graph.inputs:
        shape = found[spec.name]
        ids.at(Node(name=spec.name, layer=spec.name, op="input", outputs=[spec.name]), [shape])
        values[spec.name] = ids.new(shape[1], axis=1) if len(shape) > 1 else ids.pinned(shape, "an input of the network")
        ids.pin(values[spec.name], "an input of the network")
    sources = {spec.name for spec in network.graph.inputs}
    counted: dict[str, list[Tensor]] = {}  # per int value: ids of the channels that it counts
    for node in network.graph.nodes:
        if node.op == SIZE:
            one = compact(values[node.inputs[0]])
            counted[node.name] = [one] if varies(one, node.params["dim"]) else []
            continue
        if node.op == REQUIRE:  # it is about sizes, and goes with those of the channels that go
            counted[node.name] = []
            continue
        if node.op == INT:
            counted[node.name] = [one for name in node.symbols for one in counted[name]]
            continue
        ids.at(node, [found[name] for name in node.outputs])
        given = [values[name] for name in node.inputs if name in values]
        if node.op == OPAQUE:
            why = f"touches {network.graph.metadata.get(f'opaque:{node.layer}', f'`{node.name}`: there is no handler for it')}"
            for one in (*given, *(one for name in node.inputs for one in counted.get(name, ()))):
                ids.mark(one, why)
            made: Sequence[Tensor] = [ids.pinned(shape, why) for shape in ids.output_shapes]
        else:
            handler = handlers.get(node.op) or handlers.setdefault(node.op, handler_for(node.op))
            answer = handler.channels(typed.get(node.name) or typed_params(node, handler), given, ids)
            made = [answer] if isinstance(answer, Tensor) else list(answer)
        if len(made) != len(node.outputs):
            raise GraphError(
                f"the handler of `{node.op}` gave ids for {len(made)} outputs of `{node.name}`, which has {len(node.outputs)}"
            )
        for name, one, shape in zip(node.outputs, made, ids.output_shapes, strict=True):
            values[name] = ids.fitted(one, shape)
    for name in tree_leaves(network.graph.outputs):
        for one in [values[name]] if name in values else counted[name]:
            ids.mark(one, "an output of the network")
    return _resolved(network, ids, values, found, sources)


def _resolved(
    network: ReconstructedNetwork, ids: _Ids, values: dict[str, Tensor], found: dict[str, Shape], sources: set[str]
) -> ChannelMap:
    classes = ids.classes()
    inputs = {layer: classes[vector.numpy()] for layer, vector in ids.inputs.items()}
    outputs = {layer: classes[vector.numpy()] for layer, vector in ids.outputs.items() if layer not in sources}
    compacted: dict[str, Tensor] = {}
    same: dict[tuple[object, ...], Tensor] = {}  # most values hold the very ids of another one
    passed: dict[int, Tensor] = {}  # an op that leaves ids alone passes the tensor itself on
    for name, one in values.items():
        if id(one) not in passed:
            laid = compact(ids.below(one))
            key = laid.data_ptr(), laid.shape, laid.stride()
            if key not in same:
                same[key] = torch.from_numpy(np.asarray(classes[laid.numpy()]))
            passed[id(one)] = same[key]
        compacted[name] = passed[id(one)]
    table = Incidence(len(classes))
    for layer, vector in outputs.items():
        table.add("out", layer, vector)
    for layer, vector in inputs.items():
        table.add("in", layer, vector)
    pins: dict[str, list[npt.NDArray[np.int64]]] = defaultdict(list)
    for pin, why in ids.pins:
        pins[why].append(pin.numpy())
    stay: dict[str, Tensor] = {}
    pinned = np.zeros(len(classes), dtype=bool)
    for why, vectors in pins.items():
        rows = distinct(classes[np.concatenate(vectors)])
        table.add("pin", why, rows)
        pinned[rows] = True
        stay[why] = torch.from_numpy(rows)
    for value in same.values():
        table.hold(value.reshape(-1).numpy())
    made = distinct(np.concatenate(list(outputs.values()))) if outputs else np.zeros(0, dtype=np.int64)
    groups: list[ChannelGroup] = []
    names: dict[str, int] = defaultdict(int)
    index = np.full(len(classes), -1)
    order = {layer: place for place, layer in enumerate(network.layer_names)}
    for roles, group_ids in table.grouped(made, pinned):
        producers = sorted((layer for role, layer in roles if role == "out"), key=order.__getitem__)
        readers = sorted((layer for role, layer in roles if role == "in"), key=order.__getitem__)
        name = producers[0] if not names[producers[0]] else f"{producers[0]}#{names[producers[0]]}"
        names[producers[0]] += 1
        index[group_ids] = len(groups)
        consumers = tuple(layer for layer in readers if layer in outputs)
        followers = tuple(layer for layer in readers if layer not in outputs)
        reasons = tuple(why for role, why in roles if role == "pin")
        groups.append(ChannelGroup(name, torch.from_numpy(group_ids), tuple(producers), consumers, followers, reasons))
    read = {layer: torch.from_numpy(vector) for layer, vector in inputs.items()}
    written = {layer: torch.from_numpy(vector) for layer, vector in outputs.items()}
    return ChannelMap(network, groups, read, written, compacted, found, stay, torch.from_numpy(index))


def channel_groups(network: ReconstructedNetwork) -> list[ChannelGroup]:
    """Which channels live and die together, which layers make and read them, and what is pinned and why."""
    return channel_map(network).groups
