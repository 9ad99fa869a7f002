"""Measured latency as a cost of candidates: a sum of measured layers, held against the measured whole network."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from amc_plugins.core.errors import SettingsError
from amc_plugins.core.intrinsics import INTS, OPAQUE
from amc_plugins.core.latency_model import NodeModel
from amc_plugins.core.latency_table import LatencyTable, cache_path, kernel_of
from amc_plugins.core.outlines import NodeOutline, Piece, nodes_of
from amc_plugins.core.sizes import Sizes
from amc_plugins.core.stopwatch import Stopwatch, Timer, Work
from amc_plugins.core.structure import map_leaves

if TYPE_CHECKING:
    from amc_plugins.compression import Plan
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.sizes import Values

__all__ = ["Latency", "device_of"]

_log = logging.getLogger(__name__)

_AGAIN, _AT_MOST, _AGREE = 3, 15, 1.01
"""Measurements of whole networks, of which the least counts: targets hang on them. They go on as long as nothing came as near
to the least as this, which says that a busy machine has disturbed all of them."""

_Place = tuple[str, object, int]
"""A node of the original, the structure of what stands for it, and which node of that."""


def device_of(network: ReconstructedNetwork) -> torch.device:
    """Where a network's tensors are."""
    return next((one.device for one in network.state_dict().values()), torch.device("cpu"))


class Latency:
    """Nanoseconds of one forward pass of a candidate's network, as the sum of its layers'.

    Layers are measured at a few sizes, each once on a machine (`LatencyTable`), and predicted at the others (`NodeModel`). A
    sum of layers is not a network; `whole` measures networks, and `amc_plugins.core.budgets` corrects targets by it.

    Args:
        sizes: of the plan's candidates, for the batch.
        threads: of torch while measuring.
        timer: what measures; default: a `Stopwatch`, with the times kept on disk.
    """

    def __init__(self, sizes: Sizes, threads: int, timer: Timer | None) -> None:
        self.plan: Plan = sizes.plan
        self.device = device_of(self.plan.network)
        self.timer = timer or Stopwatch(threads, self.device)
        self.table = LatencyTable(self.timer, threads, self.device, None if timer else cache_path())
        self._sizes = sizes
        self._models: dict[_Place, NodeModel] = {}
        self._known: dict[tuple[str, Values], int] = {}
        self._opaque: dict[str, float] = {}
        self._learn([piece for key in sizes.frame.nodes for piece in sizes.seen(key)])

    def __call__(self, candidate: Mapping[str, int]) -> int:
        total = 0
        for key in self._sizes.frame.nodes:
            place = key, self._sizes.values(key, candidate)
            if place not in self._known:
                self._known[place] = self._nanoseconds(key, self._sizes.piece(*place))
            total += self._known[place]
        return total

    def whole(self, candidates: Iterable[Mapping[str, int]]) -> list[float]:
        """Measured seconds of whole networks, interleaved with each other."""
        return self.networks([self.plan.assemble(one) for one in candidates])

    def networks(self, networks: Iterable[ReconstructedNetwork]) -> list[float]:
        """Measured seconds of networks, interleaved with each other."""
        generator = torch.Generator().manual_seed(0)
        works = []
        for network in networks:
            inputs = network.example_inputs(batch=self._sizes.batch)
            works.append(Work(network, _filled(inputs, generator)))
        seen: list[list[float]] = []
        while len(seen) < _AGAIN or (len(seen) < _AT_MOST and not all(map(_agree, zip(*seen, strict=True)))):
            seen.append(self.timer(works))
        return [min(times) for times in zip(*seen, strict=True)]

    def _nanoseconds(self, key: str, piece: Piece) -> int:
        self._learn([piece])
        nodes = nodes_of(piece)
        seconds = 0.0
        for number, node in enumerate(nodes):
            if node.op in INTS:
                continue
            if node.op == OPAQUE:
                seconds += self._opaque_seconds(node)
                continue
            seconds += self._models[key, piece[0], number].seconds(kernel_of(node), _entries(node))
        return round(1e9 * seconds)

    def _learn(self, pieces: Iterable[Piece]) -> None:
        """Models for structures that are new, from all pieces that are known of them."""
        new = {piece[0] for piece in pieces} - {structure for _, structure, _ in self._models}
        if not new:
            return
        samples: dict[_Place, dict[Piece, float]] = {}
        for key in self._sizes.frame.nodes:
            for piece in self._sizes.seen(key):
                if piece[0] not in new:
                    continue
                for number, node in enumerate(nodes_of(piece)):
                    if node.op not in (*INTS, OPAQUE):
                        samples.setdefault((key, piece[0], number), {})[kernel_of(node)] = _entries(node)
        models = {place: NodeModel.of(kernels, kernels) for place, kernels in samples.items()}
        times = self.table.times(kernel for model in models.values() for kernel in model.needed())
        for model in models.values():
            model.learn(times)
        self._models.update(models)

    def _opaque_seconds(self, node: NodeOutline) -> float:
        """Opaque nodes never change: they are measured as they are, on zeros."""
        if node.name not in self._opaque:
            own = self.plan.network.node(node.name)
            if len(own.inputs) != len(node.inputs):
                _log.warning("the time of `%s` is not counted: it does not take tensors alone", node.name)
                self._opaque[node.name] = 0.0
            else:
                inputs = tuple(torch.zeros(shape, device=self.device) for _, shape, _ in node.inputs)
                (self._opaque[node.name],) = self.timer([Work(self.plan.network.layer(own.layer), inputs, node.call)])
        return self._opaque[node.name]


def _agree(times: Iterable[float]) -> bool:
    """Whether another of the times is as good as the least."""
    least, second = sorted(times)[:2]
    return second <= _AGREE * least


def _entries(node: NodeOutline) -> float:
    shapes = [*(one[1] for one in node.inputs), *(one[1] for one in node.outputs)]
    return float(sum(math.prod(shape) for shape in shapes))


def _filled(inputs: tuple[object, ...], generator: torch.Generator) -> tuple[object, ...]:
    def fill(item: object) -> object:
        if isinstance(item, torch.Tensor) and item.is_floating_point():
            return torch.randn(item.shape, generator=generator).to(item)
        return item

    filled: tuple[object, ...] = map_leaves(inputs, fill)
    return filled


def check_batch(network: ReconstructedNetwork, batch: int) -> None:
    """Raises `SettingsError` when the network takes another number of samples at once."""
    fixed = {spec.shape[0] for spec in network.graph.inputs if spec.shape and spec.shape[0] is not None}
    if fixed and batch not in fixed:
        raise SettingsError(
            f"the network was captured for {', '.join(map(str, sorted(fixed)))} samples at once; asked was a batch of {batch}",
            hint="capture it with an open batch, or ask for that one",
        )
