"""The contract of a compressor: `Compressor`, the `Plan` it prepares, and what they speak in. This module is its
reference page.

One meaning everywhere: a *ratio* is the share of multiply-adds (MACs) **removed**: of a layer (`ratio`, `ratios`,
`compress_ratio`) or of the network (`total`).

A `total` may count something else: parameters, peak activation memory, measured latency (`Budget`). A plan has nothing to do
for that. The framework reads the ops and shapes of candidates off what `assemble` gives, a few times per variable: it finds out
which of the network's nodes depend on which variables, and takes every size for a sum of one term per variable as long as the
nodes keep their structure, which it checks on other candidates. Nodes are recognised by their names: a layer's replacements are
called `<layer>.0`, `<layer>.1`, ... or have the layer as their `origin`, as the edits of `amc_plugins.graph` leave them.
`assemble` must give the same shapes for the same candidate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from amc_plugins.core.budgets import Budget, Spent, cost_of
from amc_plugins.core.calibration import Calibration
from amc_plugins.core.errors import BudgetError, SettingsError, nearest
from amc_plugins.core.installing import absorb_biases, install, linear_at, settle, settled, shift_norm
from amc_plugins.core.macs import ShrinkCost
from amc_plugins.core.moments import MEMORY, LayerMoments, Moments, collect_moments, linear_map, moments_bytes
from amc_plugins.core.norms import following_norm, norm_gain, norm_module, reestimated_norms
from amc_plugins.core.objectives import Divergence
from amc_plugins.core.preparation import Preparation
from amc_plugins.core.renewal import renewed
from amc_plugins.core.runs import Run
from amc_plugins.core.sequential import Target, match_responses, refit_sequentially
from amc_plugins.core.solves import cholesky, solve_gram
from amc_plugins.core.specs import Settings
from amc_plugins.core.targets import kept_rows, nearest_weights, response_targets
from amc_plugins.core.weighing import weighed

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.core.network import ReconstructedNetwork

__all__ = [
    "MEMORY",
    "Budget",
    "Calibration",
    "Candidate",
    "CompressionResult",
    "Compressor",
    "Divergence",
    "LayerMoments",
    "LayerResult",
    "LayerView",
    "Moments",
    "Plan",
    "Preparation",
    "Run",
    "ShrinkCost",
    "Spent",
    "Target",
    "Variable",
    "absorb_biases",
    "cholesky",
    "collect_moments",
    "following_norm",
    "install",
    "kept_rows",
    "linear_at",
    "linear_map",
    "match_responses",
    "moments_bytes",
    "nearest_weights",
    "norm_gain",
    "norm_module",
    "reestimated_norms",
    "refit_sequentially",
    "renewed",
    "response_targets",
    "settle",
    "settled",
    "shift_norm",
    "solve_gram",
    "weighed",
]

Evaluate = Callable[["ReconstructedNetwork"], float]


class Candidate(Mapping[str, int]):
    """One choice for every variable: hashable, ordered as the plan's variables, JSON through `dict(candidate)`."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, int]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self._values.items())))

    def __repr__(self) -> str:
        return f"Candidate({self._values})"

    def replaced(self, **values: int) -> Candidate:
        return Candidate({**self._values, **values})


@dataclass(frozen=True)
class Variable:
    """One thing that a search or an allocation may choose: the kept channels of a group, the rank of a layer, a scheme."""

    name: str
    layers: tuple[str, ...]
    """Layers whose ratio sets this variable; layers of one variable always share it."""
    choices: tuple[int, ...]
    """Admissible values, ascending; `full` is among them."""
    full: int
    """The value that leaves the layers as they are."""
    unit: str
    """What a value counts: `channels`, `rank`, ..."""
    errors: tuple[float, ...] | None = None
    """Relative response error per choice (0 at `full`), if the compressor knows it."""
    features: Mapping[str, float] = field(default_factory=dict)
    """Numbers that describe the layer to a search (`index`, `in_channels`, `kernel`, `stride`, `macs`, ...)."""
    ordered: bool = True
    """Whether more is more: a larger value costs more MACs and loses less. False for choices of a kind (methods, schemes)."""
    losses: tuple[float, ...] | None = None
    """What each choice does to the network's outputs, in a unit that all variables share: an allocation minimises their sum. By
    default the errors; see `weighed`."""

    def error(self, value: int) -> float:
        return 0.0 if self.errors is None else self.errors[self.choices.index(value)]

    def loss(self, value: int) -> float:
        return self.error(value) if self.losses is None else self.losses[self.choices.index(value)]

    def nearest_choice(self, value: float) -> int:
        """The admissible value nearest to `value` (the larger one of two equally near)."""
        return min(self.choices, key=lambda choice: (abs(choice - value), -choice))


@dataclass(frozen=True)
class LayerView:
    """One layer as the plan sees it."""

    name: str
    op: str
    macs: int
    variables: tuple[str, ...]
    """Variables that its ratio sets; empty when nothing applies."""
    why_not: str | None = None
    """Why nothing applies: what pins it, at which op and line."""


@dataclass(frozen=True)
class LayerResult:
    """What became of one layer. `error` is its relative response error on the calibration data, None if untouched."""

    name: str
    macs_before: int
    macs_after: int
    error: float | None
    change: str
    """In words: `64 -> 40 input channels`, `rank 12 of 64`, `` for nothing."""


@dataclass
class CompressionResult:
    """The final network of one compression."""

    network: ReconstructedNetwork
    candidate: Candidate
    macs_before: int
    macs_after: int
    layers: list[LayerResult]
    kept: dict[str, list[int]] = field(default_factory=dict)
    """Per layer that lost input channels: the kept indices."""
    spent: Spent | None = None
    """What became of what the budget counts; `amc.compress` sets it."""

    @property
    def removed(self) -> float:
        """The share of MACs removed from the network."""
        return 1.0 - self.macs_after / self.macs_before


class Plan(ABC):
    """What `Compressor.prepare` leaves: everything that does not depend on ratios. Pickles without its loader."""

    spare: ClassVar[float] = 1.0
    """A `total` of MACs that cannot be met with at most this share of the network's MACs removed beyond it is refused."""
    variables: list[Variable]
    layers: list[LayerView]
    network: ReconstructedNetwork
    """The network to compress; never changed."""
    calibration: Calibration
    """A bounded part of the calibration data, kept for the refit and for scoring candidates."""
    compressor: Compressor
    """What prepared the plan; `amc.prepare` sets it, and `seed`."""
    seed: int

    @abstractmethod
    def macs(self, candidate: Mapping[str, int]) -> int:
        """MACs of one sample of the candidate's network, exact, without building it."""

    @abstractmethod
    def value(self, variable: Variable, ratio: float) -> int:
        """The admissible value that removes the share `ratio` of the MACs of the variable's layers (never less, if it can)."""

    @abstractmethod
    def assemble(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        """The candidate's network by slices of cached results only, no solve: a search's inner step."""

    @abstractmethod
    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        """The final network. `refit` fits layer by layer on the compressed network's own activations (targets from
        the original).
        """

    def removed_channels(self, candidate: Mapping[str, int]) -> Tensor:
        """What a candidate removes of `channel_map(self.network)`: channel ids, ascending. Default: nothing."""
        return torch.zeros(0, dtype=torch.long)

    def reference(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        """A network equal to `network`, whose values those of the candidate's network stand for, channel by channel. Default:
        `network`; a method that changes the basis of channels gives that with the basis changed.
        """
        return self.network

    def rebase(self, result: CompressionResult) -> Plan:
        """A plan that goes on from a result. Default: prepare again, on the samples that this plan kept."""
        return self.compressor.prepare(result.network, self.calibration, seed=self.seed)

    @property
    def full(self) -> Candidate:
        """The candidate that changes nothing."""
        return Candidate({variable.name: variable.full for variable in self.variables})

    @property
    def smallest(self) -> Candidate:
        """The candidate with the fewest MACs: the end of the reachable range."""
        return Candidate({variable.name: min(variable.choices) for variable in self.variables})

    def removed(self, candidate: Mapping[str, int], budget: str | Budget = "macs") -> float:
        """The share that a candidate removes of what a budget counts: of the network's MACs. Latency is as predicted."""
        return cost_of(self, budget).removed(candidate)

    def candidate(
        self,
        total: float | None = None,
        ratio: float | None = None,
        ratios: Mapping[str, float] | None = None,
        allocation: Literal["curves", "uniform"] = "curves",
        budget: str | Budget = "macs",
    ) -> Candidate:
        """A candidate from exactly one of: the network's share `total`, each layer's share `ratio`, shares by layer
        name or glob.

        `allocation` spends a `total` by the variables' error curves, or with one ratio for all. `budget` is what `total` is a
        share of: `macs`, `parameters`, `activations`, `latency` or a `Budget`. A target of latency is met within 5 % by the
        measured whole network, and nothing slower than what it replaces is chosen for it.

        Raises:
            SettingsError: not exactly one was given, a ratio is outside [0, 1), a name matches nothing, or layers that share a
                variable got different ratios (the message names them).
            BudgetError: `total` is beyond what the plan can reach; the message gives the range.
        """
        given = [name for name, value in (("total", total), ("ratio", ratio), ("ratios", ratios)) if value is not None]
        if len(given) != 1:
            raise SettingsError(f"exactly one of `total`, `ratio` and `ratios` is needed, given: {', '.join(given) or 'none'}")
        if not self.variables:
            reasons = sorted({view.why_not for view in self.layers if view.why_not})
            raise BudgetError("nothing in this network can be compressed by this method: " + "; ".join(reasons[:5]))
        if total is not None:
            _check_share("total", total)
            return cost_of(self, budget).candidate(total, allocation)
        if Budget.of(budget).counts != "macs":
            raise SettingsError(f"a budget of {Budget.of(budget).words} needs `total`; `ratio` and `ratios` are shares of MACs")
        if ratio is not None:
            _check_share("ratio", ratio)
            return Candidate({variable.name: self.value(variable, ratio) for variable in self.variables})
        assert ratios is not None
        return self._from_ratios(ratios)

    def _from_ratios(self, ratios: Mapping[str, float]) -> Candidate:
        wanted = self._layer_ratios(ratios)
        values: dict[str, int] = {}
        for variable in self.variables:
            asked = {layer: wanted.get(layer, 0.0) for layer in variable.layers}
            if len(set(asked.values())) > 1:
                listed = ", ".join(f"{layer} = {share:g}" for layer, share in asked.items())
                raise SettingsError(
                    f"layers that share channels need equal ratios: {listed}",
                    hint=f"give all of {', '.join(variable.layers)} the same ratio",
                )
            share = next(iter(asked.values()), 0.0)
            values[variable.name] = self.value(variable, share) if share > 0 else variable.full
        return Candidate(values)

    def _layer_ratios(self, ratios: Mapping[str, float]) -> dict[str, float]:
        adjustable = {layer for variable in self.variables for layer in variable.layers}
        known = {view.name: view for view in self.layers}
        wanted: dict[str, float] = {}
        for pattern, share in ratios.items():
            _check_share(f"ratios[{pattern!r}]", share)
            matches = [name for name in known if fnmatchcase(name, pattern)]
            if not matches:
                raise SettingsError(f"`{pattern}` in `ratios` matches no layer{nearest(pattern, known)}")
            usable = [name for name in matches if name in adjustable]
            if not usable and share > 0:
                raise SettingsError(
                    f"`{pattern}` cannot be compressed by this method: {known[matches[0]].why_not or 'nothing applies'}"
                )
            wanted.update(dict.fromkeys(usable, share))
        return wanted


def _check_share(name: str, share: float) -> None:
    if not 0.0 <= share < 1.0:
        raise SettingsError(f"`{name}` is the share to remove, between 0 and 1 (1 excluded); given was {share!r}")


class Compressor(ABC):
    """A method. Settings in, plan out; no logic in the constructor."""

    Settings: type[Settings] = Settings

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def prepare(
        self,
        network: ReconstructedNetwork,
        calibration: Iterable[Any],
        *,
        seed: int,
        evaluate: Evaluate | None = None,
        budget: float | None = None,
        run: Run | None = None,
    ) -> Plan:
        """Do the expensive work that no ratio changes, once.

        Args:
            network: what to compress; not changed, not kept by reference to its modules.
            calibration: an iterable of tensors, or of tuples whose first item is the input (a tensor or tuple of
                tensors); labels are not needed.
            seed: all randomness of this plan.
            evaluate: `network -> score`, higher is better; only methods that say so use it.
            budget: a hint of the total share that will be asked for, if it is known already.
            run: told about progress, when given.
        """


def describe(results: Sequence[LayerResult]) -> str:
    """One line per changed layer, for logs."""
    return "\n".join(
        f"{result.name}: {result.change}, MACs {result.macs_before} -> {result.macs_after}"
        + (f", error {result.error:.2e}" if result.error is not None else "")
        for result in results
        if result.change
    )
