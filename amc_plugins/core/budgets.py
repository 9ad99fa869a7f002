"""What a budget may count, and candidates that meet one: MACs, parameters, activation memory, measured latency.

`total` is always the share removed of what the budget counts. A cost is a function of a candidate that can be asked for ten
thousand times; those other than MACs are read off a few networks that the plan assembles (`amc_plugins.core.sizes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from amc_plugins.core.allocation import allocate, spend
from amc_plugins.core.cost_tables import CostMemo, CostTables
from amc_plugins.core.costs import Activations, Parameters
from amc_plugins.core.covering import cover, undominated, unforced
from amc_plugins.core.errors import BudgetError, SettingsError, nearest
from amc_plugins.core.latency import Latency, check_batch
from amc_plugins.core.sizes import Sizes

if TYPE_CHECKING:
    from amc_plugins.compression import Candidate, Plan, Variable
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.stopwatch import Timer

__all__ = ["COUNTS", "NEAR", "Budget", "Cost", "Spent", "cost_of"]

COUNTS = {
    "macs": ("MACs", "MACs"),
    "parameters": ("parameters", "parameters"),
    "activations": ("peak activation memory", "bytes"),
    "latency": ("measured latency", "ns"),
}
"""What a budget may count: in words, and the unit of its costs."""
NEAR = 0.05
"""A measured latency meets its target when it is at most so much over it; what is sought is at most so much below."""
_MOST = 0.985
"""What is sought at most, of the target: the next measurement may differ by a per cent or two."""
_AIM = 0.97
"""Where a correction aims, of the target: inside of what is sought."""
_TRIES = 6
"""Allocations that are measured whole before a target of latency is given up."""


@dataclass(frozen=True)
class Budget:
    """What `total` is a share of.

    Raises:
        SettingsError: nothing like it can be counted, or a number is below 1.
    """

    counts: str = "macs"
    """`macs`, `parameters`, `activations` (bytes alive at the worst moment of one sample's forward pass), or `latency` (seconds
    of one forward pass in eval mode, measured on this machine)."""
    batch: int = 1
    """Samples of the forward pass that is timed."""
    threads: int | None = None
    """Of torch while it is timed; default: as many as torch uses now."""
    timer: Timer | None = None
    """What measures in place of the clock, for tests and for other machines: see `amc_plugins.core.stopwatch`."""

    def __post_init__(self) -> None:
        if self.counts not in COUNTS:
            raise SettingsError(
                f"`budget` is one of {', '.join(COUNTS)}; given was {self.counts!r}{nearest(str(self.counts), COUNTS)}"
            )
        for name, value in (("batch", self.batch), ("threads", self.threads)):
            if value is not None and value < 1:
                raise SettingsError(f"`{name}` must be at least 1; given was {value}")

    @classmethod
    def of(cls, given: str | Budget, batch: int | None = None, threads: int | None = None) -> Budget:
        """A budget from its name, or as it is."""
        if isinstance(given, Budget):
            if batch is not None or threads is not None:
                raise SettingsError("`batch` and `threads` are in the budget already: give them once")
            return given
        return cls(given, 1 if batch is None else batch, threads)

    @property
    def words(self) -> str:
        return COUNTS[self.counts][0]

    @property
    def identity(self) -> str:
        """What a search's scores depend on."""
        if self.counts != "latency":
            return self.counts
        return f"latency of {self.batch} samples, {self.threads or torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Spent:
    """What one compression did to what its budget counts."""

    counts: str
    unit: str
    before: float
    after: float
    batch: int = 1
    threads: int | None = None

    @property
    def removed(self) -> float:
        return 1.0 - self.after / self.before if self.before else 0.0

    @property
    def shown(self) -> str:
        """In words: before, after, the share removed."""
        if self.unit == "s":
            return f"{1e3 * self.before:.3f} -> {1e3 * self.after:.3f} ms, {self.removed:.1%} removed"
        return f"{self.before:,.0f} -> {self.after:,.0f} {self.unit}, {self.removed:.1%} removed"


def cost_of(plan: Plan, budget: str | Budget) -> Cost:
    """What a budget counts of a plan's candidates; made once per plan."""
    wanted = Budget.of(budget)
    costs = plan.__dict__.setdefault("_costs", _Costs())
    if wanted not in costs:
        kinds: dict[str, type[Cost]] = {"activations": _PeakCost, "latency": _LatencyCost}
        costs[wanted] = kinds.get(wanted.counts, Cost)(plan, wanted)
    found: Cost = costs[wanted]
    return found


class _Costs(dict[Budget, Any]):
    """The costs that a plan has been asked for. They do not travel with it: what needs them makes them again."""

    def __reduce__(self) -> Any:
        return _Costs, ()


class Cost:
    """What a budget counts of one candidate, in whole units, and the candidates that meet it."""

    def __init__(self, plan: Plan, budget: Budget) -> None:
        self.plan = plan
        self.budget = budget
        self.count: Callable[[Mapping[str, int]], int] = self._counted()
        self.full = self(plan.full)

    @property
    def variables(self) -> Sequence[Variable]:
        """The plan's, with the choices that this budget has a use for."""
        return self.plan.variables

    def _counted(self) -> Callable[[Mapping[str, int]], int]:
        return self.plan.macs if self.budget.counts == "macs" else Parameters(Sizes(self.plan, 1))

    def __call__(self, candidate: Mapping[str, int]) -> int:
        return self.count(candidate)

    def objective(self, candidate: Mapping[str, int]) -> float:
        """The cost as tuners and reports are told it."""
        return float(self(candidate))

    def removed(self, candidate: Mapping[str, int]) -> float:
        """The share that a candidate removes."""
        return 1.0 - self(candidate) / self.full if self.full else 0.0

    @property
    def cheapest(self) -> Candidate:
        """The end of the reachable range."""
        return self.plan.smallest

    @property
    def reachable(self) -> float:
        return self.removed(self.cheapest)

    def measured(self, candidate: Candidate) -> float | None:
        """The cost of a candidate's whole network relative to the original's, for costs that are predicted from parts."""
        return None

    def limit(self, total: float) -> float:
        """What a candidate may cost that removes the share `total`."""
        return (1.0 - total + 1e-9) * self.full  # the reachable end of the range is among what can be asked for

    def candidate(self, total: float, allocation: str = "curves") -> Candidate:
        """The candidate that removes the share `total`, allocated by error curves or with one ratio for all.

        Raises:
            BudgetError: it is out of reach; the message gives the range.
            SettingsError: there is no such allocation.
        """
        _check_allocation(allocation)
        reachable = self.reachable
        if total > reachable + 1e-9:
            raise self._refused(total, reachable)
        return self.within(self.limit(total), allocation)

    def check_met(self, total: float, candidate: Mapping[str, int]) -> None:
        """Refuse a candidate that removes more MACs than the share `total` and what `Plan.spare` allows beyond it.

        Raises:
            BudgetError: choices are too coarse for the target; the message says what can be asked for instead.
        """
        removed, spare = self.removed(candidate), self.plan.spare
        if self.budget.counts == "macs" and removed > total + spare:
            nearest_share = math.floor(1e4 * removed) / 1e4
            raise BudgetError(
                f"`total` = {total:g} of the {self.budget.words} cannot be met within {spare:.0%}: choices are coarse here, "
                f"and the nearest that removes enough removes {nearest_share:.4f}; this plan reaches 0 to {self.reachable:.4f}",
                hint=f"ask for total = {nearest_share:.4f}, or for less",
            )

    def within(self, most: float, allocation: str = "curves") -> Candidate:
        """The candidate that costs at most so much."""
        return self._spent(most) if allocation == "uniform" else self._allocated(most)

    def spent(self, candidate: Mapping[str, int], network: ReconstructedNetwork) -> Spent:
        """What a compression to this candidate, which gave this network, did."""
        return Spent(self.budget.counts, COUNTS[self.budget.counts][1], self.full, self(candidate))

    def _allocated(self, most: float) -> Candidate:
        return allocate(self.variables, self, most)

    def _spent(self, most: float) -> Candidate:
        return spend(self.variables, self, most, self._value)

    def _from_cheapest(self, most: float) -> Candidate:
        """From the cheapest candidate back up as far as the budget goes."""
        memo, cheapest = CostMemo(self.variables, self), self.cheapest
        return memo.candidate(unforced(self.variables, memo, [cheapest[one.name] for one in self.variables], most))

    def _value(self, variable: Variable, ratio: float) -> int:
        value = self.plan.value(variable, ratio)
        return value if value in variable.choices else min(one for one in variable.choices if one >= value)

    def _refused(self, total: float, reachable: float) -> BudgetError:
        return BudgetError(
            f"`total` = {total:g} of the {self.budget.words} cannot be removed: "
            f"this plan reaches 0 to {max(0.0, reachable):.4f}",
            hint="ask for less, or unite methods with the `mixed` compressor",
        )


def _check_allocation(allocation: str) -> None:
    if allocation not in ("curves", "uniform"):
        raise SettingsError(f"`allocation` must be `curves` or `uniform`, given was `{allocation}`")


class _PeakCost(Cost):
    """Peak activation memory: the largest of many sums, so it falls only where all the large ones do."""

    count: Activations
    _cheapest: Candidate | None = None

    def _counted(self) -> Activations:
        return Activations(Sizes(self.plan, 1))

    @property
    def cheapest(self) -> Candidate:
        """From the smallest candidate, each variable to its value of the least peak: chains have memory of their own."""
        if self._cheapest is None:
            memo = CostMemo(self.variables, self)
            values = [min(one.choices) for one in self.variables]
            for index, variable in enumerate(self.variables):
                trials = [[*values[:index], choice, *values[index + 1 :]] for choice in variable.choices]
                values = min((values, *trials), key=memo)
            self._cheapest = memo.candidate(values)
        return self._cheapest

    def _allocated(self, most: float) -> Candidate:
        found = cover(self.variables, self, self.count.excess, most)
        return found if self(found) <= most else self._from_cheapest(most)

    def _spent(self, most: float) -> Candidate:
        try:
            return super()._spent(most)
        except BudgetError:  # the smallest candidate has not the smallest peak
            return self._from_cheapest(most)


class _LatencyCost(Cost):
    """Latency: chosen by a sum of measured layers, corrected until the measured whole network meets the target."""

    count: Latency

    def __init__(self, plan: Plan, budget: Budget) -> None:
        check_batch(plan.network, budget.batch)
        super().__init__(plan, budget)
        self._paying = undominated(plan.variables, self)
        self._limits: dict[float, float] = {}
        self._ratios: dict[Candidate, float] = {}
        self._cheapest: Candidate | None = None

    @property
    def variables(self) -> Sequence[Variable]:
        return self._paying

    def _counted(self) -> Latency:
        threads = self.budget.threads or torch.get_num_threads()
        return Latency(Sizes(self.plan, self.budget.batch), threads, self.budget.timer)

    def measured(self, candidate: Candidate) -> float:
        """The latency of a candidate's whole network relative to the original's, both measured in turns."""
        if candidate not in self._ratios:
            whole, small = self.count.whole([self.plan.full, candidate])
            self._ratios[candidate] = small / whole
        return self._ratios[candidate]

    @property
    def cheapest(self) -> Candidate:
        if self._cheapest is None:
            memo = CostMemo(self.variables, self)
            ends = [
                memo.candidate([min(one.choices) for one in self.variables]),
                memo.candidate([one.full for one in self.variables]),
            ]
            if all(one.errors is not None for one in self.variables):
                tables = CostTables(self.variables, memo)
                ends.append(memo.candidate(tables.values(tables.cheapest())))
            self._cheapest = min(ends, key=self)
        return self._cheapest

    @property
    def reachable(self) -> float:
        return 1.0 - self.measured(self.cheapest) if self.cheapest != self.plan.full else 0.0

    def objective(self, candidate: Mapping[str, int]) -> float:
        return 1e-9 * self(candidate)

    def limit(self, total: float) -> float:
        """In units of the table: of the candidate whose measured network meets the target."""
        if total not in self._limits:
            self.candidate(total)
        return self._limits[total]

    def candidate(self, total: float, allocation: str = "curves") -> Candidate:
        _check_allocation(allocation)
        target = share = 1.0 - total
        best: tuple[tuple[bool, float], Candidate, float] | None = None
        tried: set[Candidate] = set()
        for _ in range(_TRIES):
            most = max(share * self.full, self(self.cheapest))
            found = self.within(most, allocation)
            if found in tried:
                break
            tried.add(found)
            ratio = 1.0 if found == self.plan.full else self.measured(found)
            sought = (1.0 - NEAR) * target <= ratio <= _MOST * target
            distance = not sought, abs(ratio - target)
            if ratio <= (1.0 + NEAR) * target and (best is None or distance < best[0]):
                best = distance, found, most
            if sought:
                break
            share *= _AIM * target / ratio
        if best is None:
            raise self._refused(total, self.reachable)
        if allocation == "curves":
            self._limits[total] = best[2]
        return best[1]

    def within(self, most: float, allocation: str = "curves") -> Candidate:
        memo = CostMemo(self.variables, self)
        try:
            found = super().within(most, allocation)
        except BudgetError:  # times do not fall with every ratio
            found = self._from_cheapest(most)
        # beside smaller neighbours a choice may be slower than what it replaces: then that stays
        values = [found[one.name] for one in self.variables]
        return memo.candidate(unforced(self.variables, memo, values, self(found)))

    def spent(self, candidate: Mapping[str, int], network: ReconstructedNetwork) -> Spent:
        before, after = self.count.networks([self.plan.network, network])
        threads = self.budget.threads or torch.get_num_threads()
        return Spent("latency", "s", before, after, self.budget.batch, threads)
