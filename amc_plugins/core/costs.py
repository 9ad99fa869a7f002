"""What budgets count of a plan's candidates besides MACs: parameters and peak activation memory, without assembling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_plugins.core.outlines import nodes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from amc_plugins.core.outlines import Frame, NodeOutline
    from amc_plugins.core.sizes import Sizes, Values

__all__ = ["Activations", "Parameters", "alive"]


class Parameters:
    """Entries of all parameters; one that layers share counts once."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._known: dict[tuple[str, Values], int] = {}

    def __call__(self, candidate: Mapping[str, int]) -> int:
        total = 0
        for key in self._sizes.frame.nodes:
            place = key, self._sizes.values(key, candidate)
            if place not in self._known:
                nodes = nodes_of(self._sizes.piece(*place))
                self._known[place] = sum(math.prod(shape) for node in nodes for shape in node.parameters)
            total += self._known[place]
        return total


class Activations:
    """Bytes of the tensors that are alive at the worst moment of one sample's forward pass."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._facts: dict[tuple[str, Values], tuple[int, list[int]]] = {}
        """Per piece: which structure it has, and the bytes that its nodes make."""
        self._structures: dict[object, int] = {}
        self._spans: dict[tuple[int, ...], NDArray[np.int64]] = {}
        """Per structure of the whole: what is alive when."""
        shapes = [spec.shape for spec in sizes.plan.network.graph.inputs]
        fixed = {shape[0] for shape in shapes if shape and shape[0] is not None}
        self._samples = fixed.pop() if len(fixed) == 1 and all(shapes) else 1

    def __call__(self, candidate: Mapping[str, int]) -> int:
        return int(self.steps(candidate).max())

    def excess(self, candidate: Mapping[str, int], most: float) -> float:
        """Bytes over the budget, summed over all moments: what has to go before the peak falls."""
        return float(np.maximum(self.steps(candidate) - most, 0.0).sum())

    def steps(self, candidate: Mapping[str, int]) -> NDArray[np.int64]:
        """Bytes alive while each node runs; the first is before any does."""
        structures: list[int] = []
        made = list(self._sizes.frame.inputs.values())
        for key in self._sizes.frame.nodes:
            values = self._sizes.values(key, candidate)
            found = self._facts.get((key, values))
            if found is None:
                found = self._facts[key, values] = self._read(key, values)
            structures.append(found[0])
            made += found[1]
        kinds = tuple(structures)
        spans = self._spans.get(kinds)
        if spans is None:
            nodes = [node for piece in self._sizes.pieces(candidate).values() for node in nodes_of(piece)]
            spans = self._spans[kinds] = alive(nodes, self._sizes.frame)
        alone: NDArray[np.int64] = spans @ np.array(made, dtype=np.int64) // self._samples
        return alone

    def _read(self, key: str, values: Values) -> tuple[int, list[int]]:
        piece = self._sizes.piece(key, values)
        structure = self._structures.setdefault(piece[0], len(self._structures))
        return structure, [nbytes for node in nodes_of(piece) for _, _, nbytes, shared in node.outputs if shared < 0]


def alive(nodes: Sequence[NodeOutline], frame: Frame) -> NDArray[np.int64]:
    """(steps, storages): 1 where a storage is alive. Steps: before any node, then while each runs. Storages: the inputs, then
    what nodes make, in order.

    A node's inputs and outputs are alive while it runs, and what later nodes or the caller still need. Views share the storage
    of what they are views of, which lives as long as any of them. Scratch memory of kernels and weights are not counted.
    """
    place: dict[str, int] = {name: index for index, name in enumerate(frame.inputs)}
    first, last = [0] * len(place), [0] * len(place)
    for step, node in enumerate(nodes, 1):
        read = [_value(node, name) for name, *_ in node.inputs]
        for name in read:
            last[place[name]] = step
        for name, _, _, shared in node.outputs:
            if shared < 0:
                place[_value(node, name)] = len(first)
                first.append(step)
                last.append(step)
            else:
                place[_value(node, name)] = place[read[shared]]
    for name in frame.outputs:
        last[place[name]] = len(nodes)
    moments = np.arange(len(nodes) + 1)[:, None]
    found: NDArray[np.int64] = ((moments >= np.array(first)) & (moments <= np.array(last))).astype(np.int64)
    return found


def _value(node: NodeOutline, name: str) -> str:
    return f"{node.name}{name}" if name.startswith("#") else name
