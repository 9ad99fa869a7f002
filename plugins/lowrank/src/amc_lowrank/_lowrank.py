"""The compressor `lowrank`: one pass of statistics, every layer fitted for all its ranks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from amc_lowrank._channel import ChannelScheme
from amc_lowrank._fisher import output_metrics
from amc_lowrank._layers import LayerInfo, find_layers
from amc_lowrank._options import Scheme, Statistics
from amc_lowrank._plan import LowRankPlan
from amc_lowrank._spatial import SpatialScheme
from amc_lowrank._tables import OptionTable
from amc_lowrank._tucker import TuckerScheme
from amc_plugins.compression import Calibration, Compressor, Preparation, collect_moments
from amc_plugins.graph import profile

if TYPE_CHECKING:
    from torch import Tensor

    from amc_lowrank.plugin import LowRankSettings
    from amc_plugins.compression import Evaluate, Run
    from amc_plugins.graph import ReconstructedNetwork

__all__ = ["LowRank"]

_FISHER_SAMPLES, _FEWEST_FISHER_SAMPLES = 512, 32
"""For the metric of the outputs. Networks with maps of many positions do with fewer."""
_FISHER_WORK = 7e11
"""MACs that the forwards of these samples may take; backward passes take twice as many."""
_PLAIN_SHARE = 0.1
"""Of the plain metric in the Fisher metric: directions that the samples never ask about are not free."""
_SPATIAL_CHOICES = 24
"""Spatial fits do not share factors between ranks: each choice costs a fit."""


class LowRank(Compressor):
    """Layers as chains of two or three smaller ones. See `amc_lowrank.plugin.LowRankSettings`."""

    settings: LowRankSettings

    def prepare(
        self,
        network: ReconstructedNetwork,
        calibration: Iterable[Any],
        *,
        seed: int,
        evaluate: Evaluate | None = None,
        budget: float | None = None,
        run: Run | None = None,
    ) -> LowRankPlan:
        """Fit every layer that can be decomposed for all its ranks, on the given network's own activations.

        `evaluate` and `budget` are not needed.

        Raises:
            SettingsError: the calibration data is empty or does not fit the network.
        """
        settings = self.settings
        data = Calibration.of(calibration, trainset_ratio=settings.trainset_ratio, seed=seed)
        modes = {name: network.layer(name).training for name in network.layer_names}
        network, training = network.clone().eval(), network.training
        infos, views = find_layers(network)
        schemes = self.schemes()
        tables: dict[str, OptionTable] = {}
        done = Preparation(run, "lowrank", network, data, settings, seed)
        by_name = {info.name: info for info in infos}
        if infos:
            if settings.metric == "fisher":
                fisher = done.part("metric of the outputs", lambda: _output_metrics(network, data, infos, seed))
                for name, metric in fisher.items():
                    by_name[name].weigh(metric, _PLAIN_SHARE)
            moments = done.part(
                "statistics",
                lambda: collect_moments(network, data, list(by_name), per_sample=settings.sampled_pixels_per_img, seed=seed),
            )
            for name in done.layers(by_name):
                statistics = Statistics.of(moments.pop(name))
                tables[name] = done.part(f"ranks of {name}", partial(self._fitted, by_name[name], statistics, schemes))
        views = [
            replace(view, variables=(view.name,)) if view.name in tables and tables[view.name].options else view
            for view in views
        ]
        return LowRankPlan(network, data, self, seed, infos, tables, views, training, modes)

    def schemes(self) -> dict[str, Scheme]:
        """The schemes by name."""
        settings = self.settings
        made: list[Scheme] = [
            SpatialScheme(min(_SPATIAL_CHOICES, settings.choices)),
            TuckerScheme(),
            ChannelScheme(settings.solver, settings.ridge, settings.choices),
        ]
        return {scheme.name: scheme for scheme in made}

    def _fitted(self, info: LayerInfo, statistics: Statistics, schemes: dict[str, Scheme]) -> OptionTable:
        """The named scheme where it applies, `channel` where it does not; with `auto` all that apply."""
        wanted = self.settings.scheme
        names = [name for name, scheme in schemes.items() if scheme.applies(info)]
        if wanted != "auto":
            names = [wanted if wanted in names else "channel"]
        fits = {name: schemes[name].fit(info, statistics) for name in names}
        return OptionTable.of(info, fits, info.importance(statistics.output_gram))


def _output_metrics(network: ReconstructedNetwork, data: Calibration, infos: list[LayerInfo], seed: int) -> dict[str, Tensor]:
    """The Fisher metric of the outputs at every layer's responses."""
    names, axes = [info.name for info in infos], [-1 if info.kernel is None else 1 for info in infos]
    affordable = int(_FISHER_WORK // profile(network).total_macs)
    samples = min(_FISHER_SAMPLES, max(_FEWEST_FISHER_SAMPLES, affordable))
    return output_metrics(network, data.subset(samples), names, axes, seed)
