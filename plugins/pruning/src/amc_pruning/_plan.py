"""The plan of channel pruning: one variable per channel group, weights for every admissible count."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from amc_plugins.compression import (
    Calibration,
    Candidate,
    CompressionResult,
    Compressor,
    LayerResult,
    LayerView,
    Plan,
    Variable,
    absorb_biases,
    following_norm,
    install,
    linear_at,
    settle,
    settled,
    shift_norm,
    weighed,
)
from amc_plugins.graph import insert_before, shrink
from amc_plugins.plugin import SettingsError
from amc_pruning._cost import CandidateCost
from amc_pruning._curves import Fitted, NestedFit, fit_kept, relative_error
from amc_pruning._polish import polished
from amc_pruning._refit import refit as refit_network
from amc_pruning._rotation import Rotation, rotated
from amc_pruning._sampler import PruningSampler
from amc_pruning._steps import go_on, step_counts

if TYPE_CHECKING:
    from amc_plugins.graph import ChannelMap, ReconstructedNetwork
    from amc_pruning._problems import Consumer
    from amc_pruning.plugin import PruningSettings

__all__ = ["PruningPlan"]

_REMEMBERED = 256
"""Solved weights of layers behind concatenations that a plan keeps; the oldest go first."""


@dataclass(eq=False, repr=False)
class PruningPlan(Plan):
    """Everything about a network's channels that no ratio changes.

    A consumer of one prunable group has its weights for every admissible count of that group stored: `assemble` slices. A
    consumer of several (behind a concatenation) depends on all their counts together; there are too many combinations to store,
    so its weights are solved from its moments on first use and remembered.
    """

    spare: ClassVar[float] = 0.01
    network: ReconstructedNetwork
    calibration: Calibration
    compressor: Compressor
    seed: int
    settings: PruningSettings
    channels: ChannelMap
    variables: list[Variable]
    layers: list[LayerView]
    orders: dict[str, Tensor]
    """Per variable: its channel ids, the most worth keeping first."""
    nested: dict[str, tuple[str, NestedFit]]
    """Per consumer of one variable: the variable, and the weights per choice."""
    joint: dict[str, tuple[tuple[str, ...], Consumer]]
    """Per consumer of several variables: them, and its moments."""
    sampled: dict[str, str]
    """Per variable that is the width of a sampler: the layer that reads it."""
    rotations: dict[str, Rotation]
    """Per variable whose channels are directions of another basis: that basis. Weights of layers that make such channels are
    stored in it."""
    cost: CandidateCost
    _solved: dict[tuple[str, tuple[int, ...]], Fitted] = field(default_factory=dict)
    _by_name: dict[str, Variable] = field(default_factory=dict)
    readers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Per consumer: the variables that it reads."""
    _norms: dict[str, str | None] = field(default_factory=dict)
    """Per consumer: the batch norm that follows it."""
    _grouped: frozenset[str] = frozenset()
    """Consumers of several groups: how many are left is known when they have been cut."""
    _base: ChannelMap | None = None

    def __post_init__(self) -> None:
        self._by_name = {variable.name: variable for variable in self.variables}
        self.readers = {
            **{layer: (name,) for layer, (name, _) in self.nested.items()},
            **{layer: names for layer, (names, _) in self.joint.items()},
        }
        self._norms = {layer: following_norm(self.network, layer) for layer in self.readers}
        self._grouped = frozenset(layer for layer in self.readers if linear_at(self.network, layer).groups > 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_solved": {}, "_base": None}

    def weigh(self) -> None:
        """Give the variables their losses."""
        self.variables = weighed(self)
        self._by_name = {variable.name: variable for variable in self.variables}

    def base(self, candidate: Mapping[str, int]) -> ChannelMap:
        """The channels of a network equal to the original, with all streams rotated if the candidate removes anything."""
        if not self.rotations or all(candidate[name] == one.full for name, one in self._by_name.items()):
            return self.channels
        if self._base is None:
            self._base = replace(self.channels, network=rotated(self.network, self.rotations.values()))
        return self._base

    def reference(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        return self.base(candidate).network

    def macs(self, candidate: Mapping[str, int]) -> int:
        self._check(candidate)
        return self.cost(candidate)

    def value(self, variable: Variable, ratio: float) -> int:
        """The smallest admissible count of at least `ceil((1 - ratio) c)`."""
        wanted = math.ceil((1.0 - ratio) * variable.full - 1e-9)
        return min((choice for choice in variable.choices if choice >= wanted), default=variable.full)

    def removed_channels(self, candidate: Mapping[str, int]) -> Tensor:
        """The channel ids that a candidate removes from the network, ascending; what samplers leave out stays in it.

        Raises:
            SettingsError: a variable is missing or unknown, or a count is not admissible.
        """
        self._check(candidate)
        parts = [self.orders[name][count:] for name, count in candidate.items() if name not in self.sampled]
        return torch.cat([torch.zeros(0, dtype=torch.long), *parts]).sort().values

    def _check(self, candidate: Mapping[str, int]) -> None:
        if set(candidate) != set(self._by_name):
            raise SettingsError(f"a candidate of this plan has {sorted(self._by_name)}; given were {sorted(candidate)}")
        for name, count in candidate.items():
            if count not in self._by_name[name].choices:
                raise SettingsError(f"`{name}` can keep {self._by_name[name].choices} channels; given was {count}")

    def fits(self, candidate: Mapping[str, int]) -> dict[str, Fitted]:
        """The weights of every consumer that loses inputs."""
        found: dict[str, Fitted] = {}
        for layer, (name, nested) in self.nested.items():
            if candidate[name] != self._by_name[name].full:
                found[layer] = nested.fits[self._by_name[name].choices.index(candidate[name])]
        for layer, (names, consumer) in self.joint.items():
            counts = tuple(candidate[name] for name in names)
            if any(count != self._by_name[name].full for name, count in zip(names, counts, strict=True)):
                if (layer, counts) not in self._solved:
                    if len(self._solved) >= _REMEMBERED:
                        self._solved.pop(next(iter(self._solved)))
                    gone = torch.cat([self.orders[name][count:] for name, count in zip(names, counts, strict=True)])
                    dtype = self.network.layer(layer).get_parameter("weight").dtype
                    self._solved[layer, counts] = fit_kept(consumer, gone, dtype)
                found[layer] = self._solved[layer, counts]
        return found

    def assemble(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        return self._built(candidate, absorbed=True)

    def _built(self, candidate: Mapping[str, int], *, absorbed: bool) -> ReconstructedNetwork:
        """The candidate's network; with every constant in a bias of its layer unless `absorbed`."""
        removed = self.removed_channels(candidate)
        base = self.base(candidate)
        fitted = self._kept_rows(candidate, removed)
        sampled = self._sampled_positions(candidate)
        with torch.no_grad():
            # most layers are made at once from their fitted weights, not cut out of the original first
            direct = {
                layer: settled(base.network, layer, weight, constant, self._norms[layer])
                for layer, (weight, constant) in fitted.items()
                if absorbed and len(removed) and layer not in sampled and layer not in self._grouped
            }
            made = {layer: module for layer, (module, _) in direct.items()}
            smaller = shrink(base, removed, verify=False, instead=made) if len(removed) else base.network.clone()
            for layer, (weight, constant) in fitted.items():
                norm = self._norms[layer]
                if layer in direct:
                    rest = direct[layer][1]
                    if norm is not None and rest is not None:
                        shift_norm(smaller, norm, rest)
                elif absorbed:
                    settle(smaller, layer, weight, constant, norm)
                else:
                    install(smaller, layer, weight, constant)
                if layer in sampled:
                    sampler = PruningSampler(len(self.channels.inputs[layer]), sampled[layer])
                    sampler.to(smaller.layer(layer).get_parameter("weight").device)
                    node = smaller.nodes_of(layer)[0].name
                    insert_before(smaller, node, 0, "vn.pruning_sampler", sampler, f"{layer}.sampler")
        return smaller

    def _kept_rows(self, candidate: Mapping[str, int], removed: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Weights and constants of the consumers that lose inputs, for the outputs that they still make."""
        size = 1 + max(int(ids.max()) for ids in (*self.channels.outputs.values(), removed) if len(ids))
        gone = torch.zeros(size, dtype=torch.bool)
        gone[removed] = True
        found = {}
        for layer, fitted in self.fits(candidate).items():
            rows = (~gone[self.channels.outputs[layer]]).nonzero().flatten()
            whole = len(rows) == len(fitted.bias)
            found[layer] = (fitted.weight, fitted.bias) if whole else (fitted.weight[rows], fitted.bias[rows])
        return found

    def _sampled_positions(self, candidate: Mapping[str, int]) -> dict[str, Tensor]:
        """Per layer that gets a sampler: the positions of its input that it reads."""
        found = {}
        for name, layer in self.sampled.items():
            if candidate[name] != self._by_name[name].full:
                gone = self.orders[name][candidate[name] :]
                found[layer] = (~torch.isin(self.channels.inputs[layer], gone)).nonzero().flatten()
        return found

    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        self._check(candidate)
        return (polished(self, candidate) if self.settings.swap_polish else self)._applied(candidate, refit)

    def _applied(self, candidate: Mapping[str, int], refit: bool) -> CompressionResult:
        pruned, removed = self._built(candidate, absorbed=False), self.removed_channels(candidate)
        changed = [
            layer for layer in self.readers if any(candidate[name] != self._by_name[name].full for name in self.readers[layer])
        ]
        if refit and changed:
            stages = step_counts(self, candidate)
            if stages:
                pruned, removed = self._built(stages[0], absorbed=False), self.removed_channels(stages[0])
            for counts in [*stages[1:], candidate][: len(stages)]:
                pruned, _ = self._refitted(candidate, pruned, removed, changed, norm_update=False)
                pruned, removed = go_on(self, pruned, removed, counts)
            pruned, errors = self._refitted(candidate, pruned, removed, changed, norm_update=self.settings.norm_update)
        else:
            errors = {layer: self.error(layer, candidate) for layer in changed}
        absorb_biases(self.network, pruned, errors)
        before, after = self.cost.exact.layer_macs({}), self.cost.exact.layer_macs(candidate)
        kept = {
            layer: (~torch.isin(ids, removed)).nonzero().flatten().tolist()
            for layer, ids in self.channels.inputs.items()
            if bool(torch.isin(ids, removed).any())
        }
        kept |= {layer: positions.tolist() for layer, positions in self._sampled_positions(candidate).items()}
        results = [
            LayerResult(
                view.name,
                sum(before.get(node.name, 0) for node in self.network.nodes_of(view.name)),
                sum(after.get(node.name, 0) for node in self.network.nodes_of(view.name)),
                errors.get(view.name),
                self._change(view.name, removed, kept),
            )
            for view in self.layers
        ]
        self._write(candidate, kept)
        return CompressionResult(pruned, Candidate(candidate), sum(before.values()), sum(after.values()), results, kept)

    def _refitted(
        self,
        candidate: Mapping[str, int],
        pruned: ReconstructedNetwork,
        removed: Tensor,
        changed: Iterable[str],
        *,
        norm_update: bool,
    ) -> tuple[ReconstructedNetwork, dict[str, float]]:
        return refit_network(
            self.base(candidate),
            pruned,
            self.calibration,
            changed,
            removed,
            ridge=self.settings.ridge,
            per_sample=self.settings.sampled_pixels_per_img,
            norm_update=norm_update,
            seed=self.seed,
        )

    def error(self, layer: str, candidate: Mapping[str, int]) -> float:
        """The relative squared error of a consumer with the stored weights; summed over its groups where it reads several."""
        if layer in self.nested:
            name, nested = self.nested[layer]
            return nested.errors[self._by_name[name].choices.index(candidate[name])]
        _, consumer = self.joint[layer]
        return relative_error(consumer, self.fits(candidate)[layer], self.removed_channels(candidate))

    def _change(self, layer: str, removed: Tensor, kept: Mapping[str, list[int]]) -> str:
        parts = []
        turned = {reader for rotation in self.rotations.values() for reader in rotation.stream.readers}
        if layer in kept:
            how = " (sampled)" if layer in self.sampled.values() else " (rotated)" if layer in turned else ""
            parts.append(f"{len(self.channels.inputs[layer])} -> {len(kept[layer])} input channels{how}")
        made = self.channels.outputs.get(layer)
        left = 0 if made is None else int((~torch.isin(made, removed)).sum())
        if made is not None and left < len(made):
            parts.append(f"{len(made)} -> {left} output channels")
        return ", ".join(parts)

    def _write(self, candidate: Mapping[str, int], kept: Mapping[str, list[int]]) -> None:
        """`pruning.json` in the checkpoint folder, whole or not at all."""
        folder = self.settings.checkpointfolder
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        curves = {v.name: {"channels": v.choices, "errors": v.errors} for v in self.variables}
        text = json.dumps({"candidate": dict(candidate), "kept": kept, "curves": curves}, indent=1)
        partial = folder / "pruning.json.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / "pruning.json")
