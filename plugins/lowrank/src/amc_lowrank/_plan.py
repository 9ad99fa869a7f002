"""The plan of `lowrank`: one variable per layer; candidates are slices of the cached fits, what is applied is fitted again."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from amc_lowrank._options import Option
from amc_lowrank._refit import refit as refit_network
from amc_plugins.compression import (
    Calibration,
    Candidate,
    CompressionResult,
    LayerResult,
    LayerView,
    Plan,
    Variable,
)
from amc_plugins.graph import ReconstructedNetwork, replace_all
from amc_plugins.plugin import SettingsError

if TYPE_CHECKING:
    from amc_lowrank._layers import LayerInfo
    from amc_lowrank._lowrank import LowRank
    from amc_lowrank._tables import OptionTable

__all__ = ["LowRankPlan"]

_FLOOR = 0.05


@dataclass
class LowRankPlan(Plan):
    """Every decomposable layer fitted for all its options."""

    spare: ClassVar[float] = 0.01
    network: ReconstructedNetwork
    calibration: Calibration
    compressor: LowRank
    seed: int
    infos: list[LayerInfo]
    tables: dict[str, OptionTable]
    layers: list[LayerView]
    training: bool
    modes: dict[str, bool]
    """Of the network given and of its layers: what is assembled and applied gets them; `network` itself is in eval mode."""

    def __post_init__(self) -> None:
        self._infos = {info.name: info for info in self.infos}
        self.variables: list[Variable] = self._variables()
        self._names = [variable.name for variable in self.variables]
        self._total = sum(view.macs for view in self.layers)

    def _variables(self) -> list[Variable]:
        """With losses by the layers' predicted importance, at least 5 % of its median: no error is free."""
        infos = [info for info in self.infos if self.tables[info.name].options]
        important = {info.name: self.tables[info.name].importance for info in infos}
        least = _FLOOR * statistics.median(important.values()) if important else 0.0
        return [self.tables[info.name].variable(info, max(important[info.name], least)) for info in infos]

    def macs(self, candidate: Mapping[str, int]) -> int:
        return self._total - sum(self._infos[name].macs - option.macs for name, option in self.chosen(candidate).items())

    def value(self, variable: Variable, ratio: float) -> int:
        """The best value whose MACs are at most `1 - ratio` of the layer's; the smallest one if none is."""
        most = (1.0 - ratio) * self._infos[variable.name].macs
        fitting = [value for value, option in self.tables[variable.name].options.items() if option.macs <= most]
        return max(fitting, default=variable.choices[0])

    def chosen(self, candidate: Mapping[str, int]) -> dict[str, Option]:
        """The options of the layers that a candidate decomposes.

        Raises:
            SettingsError: a variable is missing or unknown, or a value is not admissible.
        """
        if set(candidate) != set(self._names):
            raise SettingsError(f"a candidate of this plan has the variables {self._names}; given were {list(candidate)}")
        found: dict[str, Option] = {}
        for name in self._names:
            table, value = self.tables[name], candidate[name]
            if value != table.full:
                if value not in table.options:
                    raise SettingsError(f"`{name}` can be {[*table.options, table.full]} ({table.unit}); given was {value}")
                found[name] = table.options[value]
        return found

    def info(self, layer: str) -> LayerInfo:
        return self._infos[layer]

    def assemble(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        return self._in_mode(self._assembled(candidate))

    def _in_mode(self, network: ReconstructedNetwork) -> ReconstructedNetwork:
        network.train(self.training)
        for name in network.layer_names:
            made_from = name if name in self.modes else name.rpartition(".")[0]
            network.layer(name).train(self.modes[made_from])
        return network

    def _assembled(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        """In eval mode, as the fit needs it."""
        assembled = self.network.clone()
        replace_all(
            assembled,
            {
                name: [(self._infos[name].op, module) for module in self.tables[name].chain(self._infos[name], candidate[name])]
                for name in self.chosen(candidate)
            },
        )
        return assembled

    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        chosen = self.chosen(candidate)
        network = self._assembled(candidate)
        errors = {name: option.error for name, option in chosen.items()}
        if refit and chosen:
            network, errors = refit_network(self, network, chosen)
        results = []
        for view in self.layers:
            option = chosen.get(view.name)
            words = "" if option is None else option.words
            results.append(
                LayerResult(view.name, view.macs, view.macs if option is None else option.macs, errors.get(view.name), words)
            )
        self._write(candidate, results)
        return CompressionResult(self._in_mode(network), Candidate(candidate), self._total, self.macs(candidate), results)

    def _write(self, candidate: Mapping[str, int], results: list[LayerResult]) -> None:
        """`lowrank.json` in the checkpoint folder, whole or not at all."""
        folder = self.compressor.settings.checkpointfolder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        changes = {result.name: {"change": result.change, "error": result.error} for result in results if result.change}
        curves = {one.name: {one.unit: one.choices, "errors": one.errors} for one in self.variables}
        partial = folder / "lowrank.json.partial"
        text = json.dumps({"candidate": dict(candidate), "layers": changes, "curves": curves}, indent=1)
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / "lowrank.json")
