"""The plan of `mixed`: the variables of both methods, and networks that are pruned first and decomposed then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from amc_mixed._chains import Chain, ChainCost, carried, chain_names, chains_of
from amc_mixed._refit import refit as refit_network
from amc_plugins.compression import (
    Calibration,
    Candidate,
    CompressionResult,
    Compressor,
    LayerResult,
    LayerView,
    Plan,
    Variable,
    kept_rows,
    linear_at,
)
from amc_plugins.graph import ChannelMap, ReconstructedNetwork, producer, profile, replace_all
from amc_plugins.plugin import SettingsError

if TYPE_CHECKING:
    from amc_mixed._widths import Widths
    from amc_mixed.plugin import MixedSettings

__all__ = ["MixedPlan"]

PRUNE, SPLIT = "pruning/", "lowrank/"
_SAMPLER = "vn.pruning_sampler"


@dataclass(eq=False, repr=False)
class MixedPlan(Plan):
    """Candidates choose, per layer, how many of its channels stay and how it is decomposed, both or neither."""

    spare: ClassVar[float] = 0.01
    network: ReconstructedNetwork
    calibration: Calibration
    compressor: Compressor
    seed: int
    settings: MixedSettings
    prune: Plan
    split: Plan
    channels: ChannelMap
    """Of the network that both plans work on: equal to `network`, perhaps in another basis."""
    splits: list[Variable]
    """The variables of `split`, one layer each."""
    costs: dict[str, dict[int, ChainCost]]
    """Per layer and choice."""
    widths: Widths
    means: Mapping[str, Tensor]
    """Per layer: (c,) means of its input channels."""
    _chains: dict[tuple[str, int], Chain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layers = {variable.layers[0] for variable in self.splits}
        pruned = [
            replace(one, name=PRUNE + one.name, layers=tuple(layer for layer in one.layers if layer not in layers))
            for one in self.prune.variables
        ]
        self.variables = [*pruned, *(replace(one, name=SPLIT + one.name) for one in self.splits)]
        self.layers = self._views()
        self.linear_layers = [view.name for view in self.layers]
        self._by_name = {variable.name: variable for variable in self.variables}
        self._macs = {view.name: view.macs for view in self.layers}

    def _views(self) -> list[LayerView]:
        both = {view.name: view for view in self.split.layers} | {view.name: view for view in self.prune.layers}
        found = []
        for name, view in both.items():
            mine = [PRUNE + one.name for one in self.prune.variables if name in one.layers]
            mine += [SPLIT + one.name for one in self.splits if name in one.layers]
            found.append(replace(view, variables=tuple(mine), why_not=None if mine else view.why_not))
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_chains": {}}

    # --- cost ---

    def macs(self, candidate: Mapping[str, int]) -> int:
        pruned, split = self._parts(candidate)
        total = self.prune.macs(pruned)
        for layer, choice in split.items():
            width = self.widths(layer, pruned)
            total += self.costs[layer][choice](width) - self._undivided(layer, width)
        return total

    def _undivided(self, layer: str, width: tuple[int, int]) -> int:
        whole = self.widths.whole[layer]
        return self._macs[layer] * width[0] * width[1] // (whole[0] * whole[1])

    def value(self, variable: Variable, ratio: float) -> int:
        """Decomposition answers for the layers that it can; pruning for the inputs of the others."""
        if variable.name.startswith(SPLIT):
            layer = variable.layers[0]
            whole = self.widths.whole[layer]
            most = (1.0 - ratio) * self._macs[layer]
            fitting = [choice for choice, cost in self.costs[layer].items() if cost(whole) <= most]
            return max(fitting, default=variable.choices[0])
        if not variable.layers:
            return variable.full
        return self.prune.value(replace(variable, name=variable.name.removeprefix(PRUNE)), ratio)

    # --- networks ---

    def removed_channels(self, candidate: Mapping[str, int]) -> Tensor:
        return self.prune.removed_channels(self._parts(candidate)[0])

    def reference(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        unchanged = all(candidate[variable.name] == variable.full for variable in self.variables)
        return self.network if unchanged else self.channels.network

    def undivided(self, pruned: Mapping[str, int]) -> ReconstructedNetwork:
        """The pruned network before anything is decomposed."""
        untouched = all(pruned[one.name] == one.full for one in self.prune.variables)
        return self.channels.network.clone() if untouched else self.prune.assemble(pruned)

    def assemble(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        pruned, split = self._parts(candidate)
        if not split:
            return self.prune.assemble(pruned)
        network = self.undivided(pruned)
        removed = self.prune.removed_channels(pruned)
        chains = {}
        for layer, chain in self._chosen_chains(split).items():
            own = linear_at(network, layer)
            rows = kept_rows(self.channels, layer, removed)
            columns = self._columns(network, layer, removed)
            means = self.means[layer][columns].repeat_interleave(own.taps)
            trainable = network.layer(layer).get_parameter("weight").requires_grad
            whole = linear_at(self.channels.network, layer)
            chains[layer] = carried(chain, whole, own, rows, columns, means, trainable=trainable)
        replace_all(network, chains)
        return network

    def _columns(self, network: ReconstructedNetwork, layer: str, removed: Tensor) -> Tensor:
        """The input channels of a layer that are left to it."""
        node = producer(network, network.nodes_of(chain_names(network, layer)[0])[0].inputs[0])
        if node is not None and node.op == _SAMPLER:
            return torch.tensor(node.params["index"], dtype=torch.long)
        return (~torch.isin(self.channels.inputs[layer], removed)).nonzero().flatten()

    def _chosen_chains(self, split: Mapping[str, int]) -> dict[str, Chain]:
        missing = {layer: choice for layer, choice in split.items() if (layer, choice) not in self._chains}
        if missing:
            for layer, chain in chains_of(self.decomposed(missing), list(missing)).items():
                self._chains[layer, missing[layer]] = chain
        return {layer: self._chains[layer, choice] for layer, choice in split.items()}

    def _parts(self, candidate: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
        """The pruning plan's candidate, and the choice of every layer that is decomposed.

        Raises:
            SettingsError: a variable is missing or unknown, or a value is not admissible.
        """
        if set(candidate) != set(self._by_name):
            raise SettingsError(f"a candidate of this plan has {sorted(self._by_name)}; given were {sorted(candidate)}")
        for name, value in candidate.items():
            if value not in self._by_name[name].choices:
                raise SettingsError(f"`{name}` can be {self._by_name[name].choices}; given was {value}")
        pruned = {one.name: candidate[PRUNE + one.name] for one in self.prune.variables}
        split = {one.layers[0]: candidate[SPLIT + one.name] for one in self.splits if candidate[SPLIT + one.name] != one.full}
        return pruned, split

    def decomposed(self, split: Mapping[str, int]) -> ReconstructedNetwork:
        """The whole network with these layers decomposed, by slices."""
        names = {one.layers[0]: one.name for one in self.splits}
        return self.split.assemble({**self.split.full, **{names[layer]: choice for layer, choice in split.items()}})

    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        pruned, split = self._parts(candidate)
        network, errors = self.assemble(candidate), dict[str, float]()
        if refit and self.removed(candidate) > 0:
            network, errors = refit_network(self, network, pruned, split)
        kept = self._kept(network, self.prune.removed_channels(pruned))
        after: dict[str, int] = {}
        for row in profile(network).rows:
            after[row.layer] = after.get(row.layer, 0) + (row.macs or 0)
        results = [
            LayerResult(
                view.name,
                view.macs,
                sum(after[name] for name in chain_names(network, view.name)),
                errors.get(view.name),
                self._change(view.name, network, kept),
            )
            for view in self.layers
        ]
        self._write(candidate, results)
        return CompressionResult(network, Candidate(candidate), self.macs(self.full), self.macs(candidate), results, kept)

    def _kept(self, network: ReconstructedNetwork, removed: Tensor) -> dict[str, list[int]]:
        found = {}
        for layer, ids in self.channels.inputs.items():
            columns = self._columns(network, layer, removed)
            if len(columns) < len(ids):
                found[layer] = columns.tolist()
        return found

    def _change(self, layer: str, network: ReconstructedNetwork, kept: Mapping[str, list[int]]) -> str:
        names = chain_names(network, layer)
        first, last = linear_at(network, names[0]), linear_at(network, names[-1])
        whole = linear_at(self.channels.network, layer)
        parts = []
        if first.in_channels < whole.in_channels:
            parts.append(f"{whole.in_channels} -> {first.in_channels} input channels")
        if last.out_channels < whole.out_channels:
            parts.append(f"{whole.out_channels} -> {last.out_channels} output channels")
        if len(names) > 1:
            ranks = " x ".join(str(linear_at(network, name).out_channels) for name in names[:-1])
            parts.append(f"{len(names)} layers of rank {ranks}")
        return ", ".join(parts)

    def _write(self, candidate: Mapping[str, int], results: list[LayerResult]) -> None:
        """`mixed.json` in the checkpoint folder, whole or not at all."""
        folder = self.settings.checkpointfolder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        changes = {one.name: {"change": one.change, "error": one.error} for one in results if one.change}
        partial = folder / "mixed.json.partial"
        partial.write_text(json.dumps({"candidate": dict(candidate), "layers": changes}, indent=1), encoding="utf-8")
        partial.replace(folder / "mixed.json")
