"""The compressor: which channel groups can be pruned, their orders, curves and weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from amc_plugins.compression import (
    Calibration,
    Compressor,
    Evaluate,
    Plan,
    Preparation,
    ShrinkCost,
    Variable,
    collect_moments,
)
from amc_plugins.graph import ChannelMap, ReconstructedNetwork, channel_map
from amc_pruning._cost import CandidateCost, ExactCost
from amc_pruning._curves import NestedFit, nested_fit
from amc_pruning._parts import Part, admissible_counts, features_of, layer_views, parts_of, readers_of, rounding
from amc_pruning._plan import PruningPlan
from amc_pruning._problems import Consumer
from amc_pruning._rotation import Rotation, rotated, rotations_of, streams_of
from amc_pruning._selection import keep_order
from amc_pruning.plugin import PruningSettings

__all__ = ["Pruning"]

_CHOICES = 64
"""Counts per group at most; wider groups have them at even steps."""
_STORED = 1 << 30
"""Bytes of weights that a plan may store; where that is not enough, the steps between counts grow."""
_KEPT_DATA = 512 << 20
"""Bytes of calibration data that a plan keeps for its refit."""

_ROTATED = 1024
"""Samples that bases are chosen on."""

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
        done = Preparation(run, "pruning", network, data, settings, seed)
        channels = channel_map(network)
        parts, reasons = parts_of(channels, settings.shared_inputs)
        readers = readers_of(parts)
        rotations = done.part("rotations", lambda: self._rotations(channels, parts, data))
        base = replace(channels, network=rotated(network, rotations)) if rotations else channels
        moments = done.part(
            "statistics",
            lambda: collect_moments(base.network, data, readers, per_sample=settings.sampled_pixels_per_img, seed=seed),
        )
        consumers = {name: Consumer.of(base, one, settings.ridge) for name, one in moments.items()}
        counts = self._counts(parts, channels, readers)
        for part in parts:
            if len(counts[part.name]) == 1:
                reasons[part.name] = f"no admissible number of its {len(part.ids)} channels but all of them"
        parts = [part for part in parts if len(counts[part.name]) > 1]
        readers = readers_of(parts)

        macs = ShrinkCost(network, channels)
        per_node = macs.layer_macs({})
        orders: dict[str, Tensor] = {}
        nested: dict[str, tuple[str, NestedFit]] = {}
        variables: list[Variable] = []
        by_name = {part.name: part for part in parts}
        for index, name in enumerate(done.layers(by_name)):
            part = by_name[name]
            readings = [consumers[one] for one in part.layers]
            work = partial(self._fitted, network, part, readings, counts[name], seed)
            orders[name], fits = done.part(f"channels of {name}", work)
            errors = torch.zeros(len(counts[name]), dtype=torch.float64)
            for fit in fits.values():
                errors += torch.tensor(fit.errors, dtype=torch.float64)
            nested |= {one: (name, fit) for one, fit in fits.items() if len(readers[one]) == 1}
            errors[-1] = 0.0
            curve = tuple(errors.flip(0).cummax(0).values.flip(0).tolist())
            features = features_of(channels, part, index, per_node)
            variables.append(Variable(part.name, part.layers, counts[part.name], len(part.ids), "channels", curve, features))
            _log.debug("%s: %d channels read by %s", part.name, len(part.ids), ", ".join(part.layers))
        joint = {name: (tuple(owners), consumers[name]) for name, owners in readers.items() if len(owners) > 1}
        sampled = {part.name: part.layers[0] for part in parts if part.sampled}
        widths = {name: (network.nodes_of(layer)[0].name, len(channels.inputs[layer])) for name, layer in sampled.items()}
        plan = PruningPlan(
            network=network,
            calibration=_bounded(data),
            compressor=self,
            seed=seed,
            settings=settings,
            channels=channels,
            variables=variables,
            layers=layer_views(channels, variables, reasons, per_node),
            orders=orders,
            nested=nested,
            joint=joint,
            sampled=sampled,
            rotations={one.stream.name: one for one in rotations if one.stream.name in counts},
            cost=CandidateCost(ExactCost(macs, widths), variables),
        )
        plan.weigh()
        return plan

    def _fitted(
        self, network: ReconstructedNetwork, part: Part, readings: Sequence[Consumer], counts: tuple[int, ...], seed: int
    ) -> tuple[Tensor, dict[str, NestedFit]]:
        """The order in which a group's channels are kept, and every reader's weights for every count."""
        settings = self.settings
        order = keep_order(
            settings.selection,
            readings,
            part.ids,
            keep=counts[0],
            seed=seed,
            name=part.name,
            alpha=settings.lars_alpha_init,
        )
        dtypes = {one.name: network.layer(one.name).get_parameter("weight").dtype for one in readings}
        return order, {one.name: nested_fit(one, order, counts, dtypes[one.name]) for one in readings}

    def _rotations(self, channels: ChannelMap, parts: Sequence[Part], data: Calibration) -> list[Rotation]:
        if not self.settings.rotates:
            return []
        names = {part.name for part in parts if not part.sampled}
        streams = streams_of(channels, [group for group in channels.groups if group.name in names])
        return rotations_of(channels.network, streams, data.subset(_ROTATED)) if streams else []

    def _counts(
        self, parts: Sequence[Part], channels: ChannelMap, readers: Mapping[str, Sequence[str]]
    ) -> dict[str, tuple[int, ...]]:
        """Admissible counts per part, as dense as the bound on stored weights allows."""
        settings, network = self.settings, channels.network
        multiples = {part.name: rounding(channels, part, settings.round_to) for part in parts}
        steps = {part.name: -(-len(part.ids) // (_CHOICES * multiples[part.name])) * multiples[part.name] for part in parts}

        def made(part: Part) -> tuple[int, ...]:
            return admissible_counts(len(part.ids), steps[part.name], settings.keep_at_least)

        def stored(part: Part) -> int:
            weights = [network.layer(name).get_parameter("weight") for name in part.layers if len(readers[name]) == 1]
            return sum(one.nbytes for one in weights) * sum(made(part)) // len(part.ids)

        while sum(stored(part) for part in parts) > _STORED:
            largest = max(parts, key=stored)
            if len(made(largest)) <= 8:
                break
            steps[largest.name] *= 2
        return {part.name: made(part) for part in parts}


def _bounded(data: Calibration) -> Calibration:
    return data if data.bytes <= _KEPT_DATA else data.subset(max(1, len(data) * _KEPT_DATA // data.bytes))
