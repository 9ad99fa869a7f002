"""Two networks stepped side by side on the same samples, node by node, with all activations kept at the frontier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from amc_plugins.core.errors import GraphError
from amc_plugins.core.moments import linear_map
from amc_plugins.core.network import _resolve

if TYPE_CHECKING:
    from torch import nn

    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.handlers import LinearMap

__all__ = ["Pair", "Target", "Visit", "evaluating"]

_GROWTH, _LEAST_GROWTH = 4, 2
"""The networks start again on more samples as soon as that many times as many fit into the memory cap, or all there are; for
less than twice as many it is not worth the forwards."""


@dataclass(frozen=True)
class Target:
    """What a layer of the compressed network should respond: at the same samples and pixels, by values of the original."""

    value: str
    """A value of the original network."""
    channels: Tensor | None = None
    """The channels of it that the compressed layer still makes; all by default."""
    shortcut: tuple[str, str] | None = None
    """For the last layer of a residual branch: the shortcut's value in the original and in the compressed network. Their
    difference (the compressed network's shortcut must already have the kept channels; the original's are selected by
    `channels`) is added to the target: the branch makes up for the error of the shortcut (He et al. 2017, section 3.3)."""
    shortcut_scale: Tensor | None = None
    """Per channel: what the difference is multiplied with to bring it back before a BN between layer and sum: sigma / gamma."""
    geometry: LinearMap | None = None
    """How patches and responses are cut; by default as the compressed layer does. For a chain that replaces a convolution:
    the map of the replaced one."""

    @property
    def told(self) -> tuple[object, ...]:
        """All of it but the geometry, which a layer of the original has, as what compares and prints in full."""
        lists = [None if one is None else one.tolist() for one in (self.channels, self.shortcut_scale)]
        return (self.value, self.shortcut, *lists, self.geometry is None)

    @property
    def values(self) -> tuple[str, ...]:
        """The values of the original that are needed."""
        return (self.value,) if self.shortcut is None else (self.value, self.shortcut[0])


@dataclass
class Visit:
    """A layer of the compressed network that is about to run, and the target that the original has for it."""

    layer: str
    samples: int
    own: LinearMap
    """The compressed layer as it is now."""
    target: Target
    _input: str
    _original: _Side
    _compressed: _Side

    @property
    def geometry(self) -> LinearMap:
        return self.target.geometry or self.own

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The layer's input and its target, chunk by chunk."""
        for chunk in range(len(self._compressed.values)):
            yield self._compressed.value(chunk, self._input), self._wanted(chunk)

    def _wanted(self, chunk: int) -> Tensor:
        target, axis = self.target, self.own.input_axis
        y = self._selected(self._original.value(chunk, target.value))
        if target.shortcut is None:
            return y
        difference = self._selected(self._original.value(chunk, target.shortcut[0]))
        difference = difference - self._compressed.value(chunk, target.shortcut[1])
        if target.shortcut_scale is not None:
            shape = [1] * difference.dim()
            shape[axis] = -1
            difference = difference * target.shortcut_scale.to(difference).reshape(shape)
        wanted: Tensor = y + difference
        return wanted

    def _selected(self, value: Tensor) -> Tensor:
        kept = self.target.channels
        return value if kept is None else value.index_select(self.own.input_axis, kept.to(value.device))


class _Side:
    """One network with the values that are alive for each chunk of samples. `position` nodes of `order` have run."""

    def __init__(self, network: ReconstructedNetwork, order: Sequence[int], pinned: Iterable[str]) -> None:
        self.network = network
        self.order = order
        self.position = 0
        self.values: list[list[Any]] = []
        self.slots = network._slots
        self._last = _last_uses(network, order)
        self._dead: list[list[int]] = [[] for _ in order]
        kept = {self.slots[name] for name in pinned}
        for slot, position in self._last.items():
            if slot not in kept:
                self._dead[position].append(slot)

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

    def unpin(self, name: str) -> None:
        """Free a value that only its pin kept; one that nodes have yet to read is freed after the last of them."""
        slot = self.slots[name]
        last = self._last.get(slot, -1)
        if last >= self.position:
            self._dead[last].append(slot)
            return
        for values in self.values:
            values[slot] = None

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


class Pair:
    """Steps the original and the compressed network from one visited layer to the next.

    Raises:
        GraphError: a layer or value does not exist, a layer runs several times, or a shortcut depends on the layer that should
            correct it.
    """

    def __init__(
        self,
        original: ReconstructedNetwork,
        compressed: ReconstructedNetwork,
        layers: Mapping[str, str | Target],
        memory: int,
    ) -> None:
        self.original = original.clone().eval() if any(one.training for one in original.modules()) else original
        self.compressed = compressed
        self.memory = memory
        self.targets = {name: Target(one) if isinstance(one, str) else one for name, one in layers.items()}
        node_of = {name: _only_call(compressed, name) for name in self.targets}
        early = {node_of[name]: one.shortcut[1] for name, one in self.targets.items() if one.shortcut}
        self.order = _running_order(compressed, early)
        place = {node: position for position, node in enumerate(self.order)}
        self.stops = sorted((place[node], name) for name, node in node_of.items())
        self.inputs = {name: compressed.graph.nodes[node].inputs[0] for name, node in node_of.items()}
        self.reach = self._reach()

    def visits(self, calibration: Calibration, start: int = 0) -> Iterator[Visit]:
        """Each visited layer before it runs, from the `start`-th on; whoever consumes the visit may replace the layer."""
        if start >= len(self.stops):
            return
        samples = self._samples(calibration)
        for number, (position, name) in enumerate(self.stops[start:], start):
            if number == start or samples[number] != samples[number - 1]:
                self._load(calibration.subset(samples[number]), number)
            else:
                self.left.advance(self.reach[number])
                self.right.advance(position)
            own = linear_map(self.compressed, name)
            if own is None:
                raise GraphError(f"layer `{name}` is no linear map: it has no patches")
            yield Visit(name, samples[number], own, self.targets[name], self.inputs[name], self.left, self.right)
            self._release(number)
        self.left.values, self.right.values = [], []

    def _samples(self, calibration: Calibration) -> list[int]:
        """Per stop: how many samples are brought there."""
        total, samples = len(calibration), 0
        found = []
        for capacity in self._capacities(calibration):
            fits = min(total, capacity)
            if samples == 0 or fits >= max(_LEAST_GROWTH * samples, min(total, _GROWTH * samples)):
                samples = fits
            found.append(samples)
        return found

    def _reach(self) -> list[int]:
        """Per stop: how many nodes of the original must have run."""
        made = _producers(self.original)
        reach, furthest = [], 0
        for _, name in self.stops:
            for value in self.targets[name].values:
                if value not in self.original._slots:
                    raise GraphError(f"the target of `{name}` is `{value}`, which is no value of the original network")
                furthest = max(furthest, made.get(value, -1) + 1)
            reach.append(furthest)
        return reach

    def _load(self, calibration: Calibration, number: int) -> None:
        """Fresh sides at stop `number`, on the samples of `calibration`."""
        left = {value for one in self.targets.values() for value in one.values}
        right = {one.shortcut[1] for one in self.targets.values() if one.shortcut}
        self.left = _Side(self.original, range(len(self.original.graph.nodes)), left)
        self.right = _Side(self.compressed, self.order, right)
        for earlier in range(number):
            self._release(earlier)
        self.left.load(calibration.chunks(self.original), self.reach[number])
        self.right.load(calibration.chunks(self.compressed), self.stops[number][0])

    def _release(self, number: int) -> None:
        """Give up what was kept for this stop, if no later one needs it."""
        target = self.targets[self.stops[number][1]]
        later = [self.targets[name] for _, name in self.stops[number + 1 :]]
        for value in set(target.values) - {value for one in later for value in one.values}:
            self.left.unpin(value)
        if target.shortcut and target.shortcut[1] not in {one.shortcut[1] for one in later if one.shortcut}:
            self.right.unpin(target.shortcut[1])

    def _capacities(self, calibration: Calibration) -> list[int]:
        """Per stop: how many samples fit into memory there and on the way to the last one; measured on one sample."""
        self._load(calibration.subset(1), 0)
        there: list[int] = []
        before: list[int] = []
        for number, (position, _) in enumerate(self.stops):
            self.left.advance(self.reach[number])
            peak = self.right.alive()
            while self.right.position < position:
                self.right.advance(self.right.position + 1)
                peak = max(peak, self.right.alive())
            there.append(self.right.alive() + self.left.alive())
            before.append(peak + self.left.alive())
            self._release(number)
        # chunks are brought to a stop one by one, so what is alive on the way to it does not count at a fresh start
        return [self.memory // max(1, there[number], *before[number + 1 :]) or 1 for number in range(len(there))]


def _only_call(network: ReconstructedNetwork, layer: str) -> int:
    calls = [index for index, node in enumerate(network.graph.nodes) if node.layer == layer]
    if len(calls) != 1:
        raise GraphError(
            f"layer `{layer}` runs {len(calls)} times in the compressed network; it must run once to be fitted in order"
        )
    return calls[0]


def _producers(network: ReconstructedNetwork) -> dict[str, int]:
    return {value: index for index, node in enumerate(network.graph.nodes) for value in node.outputs}


def _last_uses(network: ReconstructedNetwork, order: Sequence[int]) -> dict[int, int]:
    """Per slot: the last position of `order` that makes or reads it."""
    last: dict[int, int] = {}
    for position, index in enumerate(order):
        node = network.graph.nodes[index]
        for name in (*node.inputs, *node.symbols, *node.outputs):
            last[network._slots[name]] = position
    return last


def _running_order(network: ReconstructedNetwork, early: Mapping[int, str]) -> list[int]:
    """Node indices in running order, except that the values in `early` are made before the nodes that name them."""
    made = _producers(network)
    order: list[int] = []
    finished: dict[int, bool] = {}

    def visit(index: int) -> None:
        node = network.graph.nodes[index]
        if not finished.setdefault(index, False):
            for value in (*node.inputs, *node.symbols, *([early[index]] if index in early else [])):
                if value in made and not finished.get(made[value], False):
                    if made[value] in finished:
                        raise GraphError(f"the shortcut of `{node.layer}` depends on the layer itself")
                    visit(made[value])
            finished[index] = True
            order.append(index)

    for value in early.values():
        if value not in network._slots:
            raise GraphError(f"`{value}` is no value of the compressed network")
    for index in range(len(network.graph.nodes)):
        visit(index)
    return order


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module, also one installed meanwhile, has the mode of its place again."""
    modes = {name: module.training for name, module in network.named_modules()}
    network.eval()
    try:
        yield
    finally:
        for name, module in network.named_modules():
            module.training = modes.get(name, network.training)
