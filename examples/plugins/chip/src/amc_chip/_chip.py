"""The compressor `chip`: channels whose feature maps are the least independent go.

Sui, Yin, Xie, Phan, Zonouz and Yuan, "CHIP: CHannel Independence-based Pruning for compact neural networks" (NeurIPS 2021).
The feature maps of a layer for one sample are the rows of a matrix A, (c, h * w). The independence of channel i is how
much the nuclear norm of A falls when its row is masked, ||A||_* - ||M_i * A||_*, averaged over samples (section 3.2); of
several channels it is approximated by their sum, and the channels with the least of it are removed (algorithm 1). As in the
paper no weight is changed: the network is to be fine-tuned afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from amc_plugins.compression import (
    Calibration,
    Candidate,
    CompressionResult,
    Compressor,
    LayerResult,
    LayerView,
    Plan,
    ShrinkCost,
    Variable,
    linear_map,
)
from amc_plugins.graph import ReconstructedNetwork, channel_map, walk
from torch import Tensor


class Chip(Compressor):
    """Keeps the most independent channels of every group."""

    def prepare(
        self,
        network: ReconstructedNetwork,
        calibration: Iterable[Any],
        *,
        seed: int,
        evaluate: Any = None,
        budget: float | None = None,
        run: Any = None,
    ) -> ChipPlan:
        data = Calibration.of(calibration, seed=seed)
        return ChipPlan(network.clone(), data, self.settings.keep_at_least, self.settings.samples)


class ChipPlan(Plan):
    """One variable a group of channels that live and die together: how many of them stay."""

    def __init__(self, network: ReconstructedNetwork, data: Calibration, least: float, samples: int) -> None:
        self.network = network
        self.calibration = data
        self.channels = channel_map(network)
        self.cost = ShrinkCost(network, self.channels)
        importance = self.importance(data.subset(samples))
        groups = [group for group in self.channels.groups if not group.pinned and group.consumers and len(group) > 1]
        self.order: dict[str, Tensor] = {}
        self.variables: list[Variable] = []
        for group in groups:
            scores = importance[group.ids]
            order = scores.argsort(descending=True, stable=True)
            self.order[group.name] = group.ids[order]
            choices = range(max(1, math.ceil(least * len(group))), len(group) + 1)
            left = 1.0 - scores[order].cumsum(0) / scores.sum().clamp_min(1e-12)  # the share of the importance that goes
            errors = tuple(max(0.0, float(left[count - 1])) for count in choices)
            self.variables.append(Variable(group.name, group.consumers, tuple(choices), len(group), "channels", errors))
        self.layers = self._views()

    def importance(self, data: Calibration) -> Tensor:
        """The independence of every channel id, as the layers that read it see its feature maps: their mean."""
        maps = {layer: linear_map(self.network, layer) for layer in self.channels.inputs}
        axes = {layer: one.input_axis for layer, one in maps.items() if one is not None}
        ids = max((int(one.max()) for one in self.channels.values.values()), default=0) + 1
        sums, counts = torch.zeros(2, ids, dtype=torch.float64)
        quiet = self.network.clone().eval()
        with torch.no_grad():
            for inputs in data.chunks(quiet):
                for step in walk(quiet, inputs):
                    if step.node.layer in axes:
                        read = self.channels.inputs[step.node.layer]
                        rows = step.inputs[0].double().movedim(axes[step.node.layer], 1)
                        found, maps_of = by_channel(rows.reshape(*rows.shape[:2], -1).cpu(), read)
                        sums.index_add_(0, found, independence(maps_of).sum(0))
                        counts.index_add_(0, found, torch.full((len(found),), float(len(rows)), dtype=torch.float64))
        return sums / counts.clamp_min(1.0)

    def _views(self) -> list[LayerView]:
        variables = {layer: one.name for one in self.variables for layer in one.layers}
        groups = {group.name: group for group in self.channels.groups}
        views = []
        for node, macs in self.cost.layer_macs({}).items():
            layer = self.network.node(node).layer
            found = variables.get(layer)
            pinned = [why for group in groups.values() if layer in group.consumers for why in group.pinned]
            why = None if found else (pinned[0] if pinned else "the channels that it reads are the network's inputs")
            views.append(LayerView(layer, self.network.node(node).op, macs, (found,) if found else (), why))
        return views

    def macs(self, candidate: Mapping[str, int]) -> int:
        return self.cost.macs(candidate)

    def value(self, variable: Variable, ratio: float) -> int:
        return max(variable.choices[0], math.floor((1.0 - ratio) * variable.full))

    def removed_channels(self, candidate: Mapping[str, int]) -> Tensor:
        gone = [self.order[name][count:] for name, count in candidate.items()]
        return torch.cat(gone).sort().values if gone else torch.zeros(0, dtype=torch.long)

    def assemble(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        return self.channels.shrink(self.removed_channels(candidate))

    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        before, after = self.cost.layer_macs({}), self.cost.layer_macs(candidate)
        layers = []
        for view in self.layers:
            changed = [f"{candidate[name]} of {len(self.order[name])} input channels" for name in view.variables]
            words = changed[0] if changed and after[view.name] != before[view.name] else ""
            layers.append(LayerResult(view.name, before[view.name], after[view.name], None, words))
        macs = sum(before.values()), sum(after.values())
        return CompressionResult(self.assemble(candidate), Candidate(candidate), *macs, layers)


def by_channel(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, positions, k) of positions with channel ids as ids (c,) and their feature maps (N, c, k').

    Behind a flatten a channel has several positions: they are its feature map.
    """
    order = ids.argsort(stable=True)
    found, sizes = ids[order].unique_consecutive(return_counts=True)
    if len(found) == len(ids) or len(set(sizes.tolist())) > 1:  # one position each, or ids that cannot be laid out as maps
        found, places = ids[order].unique_consecutive(return_inverse=True)
        summed = torch.zeros(rows.shape[0], len(found), rows.shape[2], dtype=rows.dtype)
        return found, summed.index_add_(1, places, rows[:, order])
    return found, rows[:, order].reshape(rows.shape[0], len(found), -1)


def independence(maps: Tensor) -> Tensor:
    """||A||_* - ||M_i * A||_* for every sample and channel, (N, c), of feature maps (N, c, h * w)."""
    gram = maps @ maps.transpose(1, 2)
    whole = nuclear(gram)
    channels = gram.shape[1]
    masked = [nuclear(gram[:, others][:, :, others]) for others in _all_but_one(channels)]
    return whole[:, None] - torch.stack(masked, 1)


def nuclear(gram: Tensor) -> Tensor:
    """The nuclear norms (N,) of matrices A with the Gram matrices A A^T (N, c, c): sums of the roots of their eigenvalues."""
    return torch.linalg.eigvalsh(gram).clamp_min(0.0).sqrt().sum(1)


def _all_but_one(count: int) -> Iterable[Tensor]:
    everything = torch.arange(count)
    return (everything[everything != index] for index in range(count))
