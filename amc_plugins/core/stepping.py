"""Two networks stepped side by side on the same samples, node by node, with all activations kept at the frontier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from amc_plugins.core.errors import GraphError
from amc_plugins.core.moments import linear_map
from amc_plugins.core.network import ReconstructedNetwork, _resolve

if TYPE_CHECKING:
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.handlers import LinearMap

__all__ = ["Pair", "Target", "Visit", "evaluating"]

_GROWTH = 4
"""The networks start again on more samples as soon as that many times as many fit into the memory cap."""


@dataclass(frozen=True)
class Target:
    """What a layer of the compressed network should respond: at the same samples and pixels, in terms of the original's values."""

    value: str
    """A value of the original network."""
    channels: Tensor | None = None
    """The channels of it that the compressed layer still makes; all by default."""
    shortcut: tuple[str, str] | None = None
    """For the last layer of a residual branch: the shortcut's value in the original and in the compressed network. Their difference
    is added to the target, so that the branch makes up for the error of the shortcut (He et al. 2017, section 3.3)."""
    shortcut_scale: Tensor | None = None
    """Per channel: what the difference is multiplied with to bring it back before a BN between layer and sum, sigma / gamma."""
    geometry: LinearMap | None = None
    """How patches and responses are cut; the compressed layer's own way by default. A chain that replaces a convolution gives the
    replaced convolution's here."""


class _Side:
    """One network with the values that are alive for each chunk of samples. `position` counts nodes of `order` that have run."""

    def __init__(self, network: ReconstructedNetwork, order: Sequence[int], pinned: set[str]) -> None:
        self.network = network
        self.order = order
        self.position = 0
        self.values: list[list[Any]] = []
        self.slots = network._slots
        self._dead = _dead_slots(network, order, {self.slots[name] for name in pinned})

    def load(self, chunks: Iterator[tuple[Any, ...]], position: int) -> None:
        """Start again on other samples; each chunk is run up to `position` by itself."""
        self.values = []
        self.position = position
        for inputs in chunks:
            values: list[Any] = [None] * len(self.slots)
            for tree, given in zip(self.network._signature, inputs, strict=True):
                self.network._bind(tree, given, values)
            for index in range(position):
                self._run(values, index)
            self.values.append(values)

    def advance(self, position: int) -> None:
        for values in self.values:
            for index in range(self.position, position):
                self._run(values, index)
        self.position = max(self.position, position)

    def free(self, names: set[str]) -> None:
        for values in self.values:
            for name in names:
                values[self.slots[name]] = None

    def alive(self) -> int:
        """Bytes of the values that are alive, of all chunks."""
        return sum(one.nbytes for values in self.values for one in values if isinstance(one, Tensor))

    def value(self, chunk: int, name: str) -> Any:
        return self.values[chunk][self.slots[name]]

    def _run(self, values: list[Any], index: int) -> None:
        one = self.network._schedule[self.order[index]]
        symbolic = {name: _resolve(value, values) for name, value in one.symbolic}
        result = self.network.layers[one.key](*(values[slot] for slot in one.inputs), **symbolic)
        for number, slot in enumerate(one.outputs):
            values[slot] = result if len(one.outputs) == 1 else result[number]
        for slot in self._dead[index]:
            values[slot] = None


@dataclass
class Visit:
    """One layer of the compressed network about to run, with the target that the original has for it."""

    layer: str
    samples: int
    geometry: LinearMap
    own: LinearMap
    input_value: str
    target: Target
    original: _Side
    compressed: _Side

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Input and target of each chunk."""
        axis = self.own.input_axis
        for chunk in range(len(self.compressed.values)):
            y = self.original.value(chunk, self.target.value)
            if self.target.channels is not None:
                y = y.index_select(axis, self.target.channels.to(y.device))
            if self.target.shortcut is not None:
                ours, theirs = self.target.shortcut
                difference = self.original.value(chunk, ours) - self.compressed.value(chunk, theirs)
                if self.target.shortcut_scale is not None:
                    shape = [1] * difference.dim()
                    shape[axis] = -1
                    difference = difference * self.target.shortcut_scale.to(difference).reshape(shape)
                y = y + difference
            yield self.compressed.value(chunk, self.input_value), y

    def outputs(self, y: Tensor) -> int:
        return y.shape[self.own.input_axis]


class Pair:
    """Steps the original and the compressed network from one visited layer to the next."""

    def __init__(
        self,
        original: ReconstructedNetwork,
        compressed: ReconstructedNetwork,
        layers: Mapping[str, str | Target],
        memory: int,
    ) -> None:
        self.memory = memory
        if any(module.training for module in original.modules()):
            original = original.clone().eval()
        self.compressed = compressed
        self.targets = {name: Target(one) if isinstance(one, str) else one for name, one in layers.items()}
        self.node_of: dict[str, int] = {}
        for name in self.targets:
            calls = [index for index, node in enumerate(compressed.graph.nodes) if node.layer == name]
            if len(calls) != 1:
                raise GraphError(
                    f"layer `{name}` is called {len(calls)} times; only a layer that runs once can be fitted in order"
                )
            self.node_of[name] = calls[0]
        made = _producers(original)
        for name, target in self.targets.items():
            for value in (target.value, *(target.shortcut or ())[:1]):
                if value not in made:
                    raise GraphError(f"the target of `{name}` is `{value}`, which is no value of the original network")
        order = _running_order(
            compressed, {self.node_of[name]: target.shortcut[1:] for name, target in self.targets.items() if target.shortcut}
        )
        place = {node: index for index, node in enumerate(order)}
        self.stops = sorted((place[node], name) for name, node in self.node_of.items())
        # where the original must have come to, and what is needed there, at each stop
        reached = 0
        self.reach: list[int] = []
        for _, name in self.stops:
            target = self.targets[name]
            needed = [made[value] for value in (target.value, *(target.shortcut or ())[:1])]
            reached = max(reached, *(index + 1 for index in needed))
            self.reach.append(reached)
        pinned = {value for target in self.targets.values() for value in (target.value, *(target.shortcut or ())[:1])}
        theirs = {target.shortcut[1] for target in self.targets.values() if target.shortcut}
        self.left = _Side(original, range(len(original.graph.nodes)), pinned)
        self.right = _Side(compressed, order, theirs)

    def visits(self, calibration: Calibration) -> Iterator[Visit]:
        """Yields before each visited layer runs; the layer may be replaced by the consumer."""
        capacity = self._capacities(calibration)
        total = len(calibration)
        samples = 0
        for number, (position, name) in enumerate(self.stops):
            fits = min(total, capacity[number])
            if samples == 0 or fits >= min(total, _GROWTH * samples) > samples:
                samples = fits
                self._load(calibration.subset(samples), number)
            else:
                self.left.advance(self.reach[number])
                self.right.advance(position)
            own = linear_map(self.compressed, name)
            if own is None:
                raise GraphError(f"layer `{name}` is no linear map: it has no patches")
            target = self.targets[name]
            node = self.compressed.graph.nodes[self.node_of[name]]
            yield Visit(name, samples, target.geometry or own, own, node.inputs[0], target, self.left, self.right)
            self._release(number)
        self.left.values, self.right.values = [], []

    def _load(self, calibration: Calibration, number: int) -> None:
        self.left.load(calibration.chunks(self.left.network), self.reach[number])
        self.right.load(calibration.chunks(self.right.network), self.stops[number][0])
        for earlier in range(number):
            self._release(earlier)

    def _release(self, number: int) -> None:
        """Free what was kept for this stop and no later one needs."""
        name = self.stops[number][1]
        later = [self.targets[other] for _, other in self.stops[number + 1 :]]
        target = self.targets[name]
        kept_left = {value for one in later for value in (one.value, *(one.shortcut or ())[:1])}
        kept_right = {one.shortcut[1] for one in later if one.shortcut}
        # a pinned value that a node still has to read must stay: only the schedule's own frees may take it
        self.left.free(
            {
                one
                for one in (target.value, *(target.shortcut or ())[:1])
                if one not in kept_left and self._spent(self.left, one)
            }
        )
        if target.shortcut and target.shortcut[1] not in kept_right and self._spent(self.right, target.shortcut[1]):
            self.right.free({target.shortcut[1]})

    def _spent(self, side: _Side, value: str) -> bool:
        nodes = side.network.graph.nodes
        return all(value not in (*nodes[index].inputs, *nodes[index].symbols) for index in side.order[side.position :])

    def _capacities(self, calibration: Calibration) -> list[int]:
        """Per stop: how many samples fit into memory from there to the last stop; measured with one sample."""
        self._load(calibration.subset(1), 0)
        alive: list[int] = []
        for number, (position, _) in enumerate(self.stops):
            peak = 0
            for step in range(self.right.position, position + 1):
                self.right.advance(step)
                peak = max(peak, self.right.alive())
            self.left.advance(self.reach[number])
            alive.append(peak + self.left.alive())
            self._release(number)
        rest = [max(alive[number:]) for number in range(len(alive))]
        return [max(1, self.memory // max(1, one)) for one in rest]


def _producers(network: ReconstructedNetwork) -> dict[str, int]:
    return {value: index for index, node in enumerate(network.graph.nodes) for value in node.outputs}


def _running_order(network: ReconstructedNetwork, extra: Mapping[int, Sequence[str]]) -> list[int]:
    """Node indices in running order, except that the values in `extra` are made before the nodes that name them."""
    made = _producers(network)
    order: list[int] = []
    state: dict[int, bool] = {}

    def visit(index: int) -> None:
        if index in state:
            if not state[index]:
                node = network.graph.nodes[index]
                raise GraphError(f"the shortcut of `{node.layer}` depends on `{node.layer}` itself")
            return
        state[index] = False
        node = network.graph.nodes[index]
        for value in (*node.inputs, *node.symbols, *extra.get(index, ())):
            if value in made:
                visit(made[value])
        state[index] = True
        order.append(index)

    for index in range(len(network.graph.nodes)):
        visit(index)
    return order


def _dead_slots(network: ReconstructedNetwork, order: Sequence[int], pinned: set[int]) -> list[list[int]]:
    """Per position of `order`: the slots that nothing needs afterwards, pinned ones excepted."""
    last: dict[int, int] = {}
    for position, index in enumerate(order):
        node = network.graph.nodes[index]
        for name in (*node.inputs, *node.symbols, *node.outputs):
            last[network._slots[name]] = position
    dead: list[list[int]] = [[] for _ in order]
    for slot, position in last.items():
        if slot not in pinned:
            dead[position].append(slot)
    return dead


@contextmanager
def evaluating(network: ReconstructedNetwork) -> Iterator[None]:
    """Eval mode inside; afterwards every module, also one installed meanwhile, has the mode of its place again."""
    modes = {name: module.training for name, module in network.named_modules()}
    network.eval()
    try:
        yield
    finally:
        for name, module in network.named_modules():
            module.training = modes.get(name, network.training)
