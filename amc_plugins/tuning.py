"""The contract of a tuner: `Tuner`, and the `Space` it searches. This module is its reference page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amc_plugins.compression import Candidate, Plan, Variable
from amc_plugins.core.allocation import repair
from amc_plugins.core.budgets import Budget, cost_of
from amc_plugins.core.errors import BudgetError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["STARTS", "Candidate", "Space", "Tuner", "Variable"]

STARTS = ("allocation", "uniform")
"""What the candidates of `Space.starts` are, in order."""


@dataclass(frozen=True)
class Space:
    """The ordered variables of a plan, their exact costs and the budget.

    `budget` is in MACs of one sample, or in the units of what else the search's budget counts (parameters, bytes of peak
    activation memory, predicted nanoseconds), and `macs` counts that then; every candidate handed to `Tuner.tell` fits it.
    """

    variables: tuple[Variable, ...]
    macs: Callable[[Mapping[str, int]], int]
    budget: float
    starts: tuple[Candidate, ...] = ()
    """Candidates worth scoring first: the plan's own allocation by error curves, and one ratio for all."""
    least: Candidate | None = None
    """The cheapest candidate, where it is not the one of all smallest values."""

    @classmethod
    def of(cls, plan: Plan, total: float, budget: str | Budget = "macs", *, limit: float | None = None) -> Space:
        """The space of a plan whose candidates must remove at least the share `total` of what a budget counts.

        `limit` is the budget in the cost's units where it is known already: that of a latency is found by measuring.

        Raises:
            BudgetError: the plan cannot reach `total`.
            SettingsError: nothing like `budget` can be counted.
        """
        cost = cost_of(plan, budget)
        if limit is None:
            allocated = cost.candidate(total)
            limit = cost.limit(total)
        else:
            allocated = cost.within(limit)
        return cls(tuple(cost.variables), cost, limit, (allocated, cost.within(limit, "uniform")), cost.cheapest)

    @property
    def cheapest(self) -> Candidate:
        """The end of the reachable range."""
        return self.least or Candidate({variable.name: min(variable.choices) for variable in self.variables})

    def repair(self, candidate: Mapping[str, int], budget: float | None = None) -> Candidate:
        """The nearest candidate within the budget that uses it up: scaled towards the small or the full end, then rounded.

        Raises:
            BudgetError: even the smallest candidate is over the budget.
        """
        most = self.budget if budget is None else budget
        try:
            return repair(self.variables, self.macs, candidate, most)
        except BudgetError:
            if self.least is None or self.macs(self.least) > most:
                raise
        moved = dict(candidate)  # smaller is not always cheaper here: towards the cheapest, one variable after the other
        for name, value in self.least.items():
            if self.macs(moved) <= most:
                break
            moved[name] = value
        return Candidate(moved)

    def draw(self, rng: np.random.Generator) -> Candidate:
        """A random candidate within the budget: independent uniform choices, repaired."""
        drawn = {variable.name: int(rng.choice(variable.choices)) for variable in self.variables}
        return self.repair(Candidate(drawn))


class Tuner(ABC):
    """A search. `ask` proposes, `tell` reports; `state` and `restore` make a killed search go on with the same trajectory.

    A trajectory is a function of the settings, the space, the seed and what was told in which order: randomness comes from
    generators of the tuner's own, and `ask` and `tell` do nothing that `restore` cannot bring back. Candidates are told in the
    order in which they were asked, all of one `ask` before the next; some may have been scored before, which costs nothing.
    """

    def __init__(self, settings: Any, space: Space, seed: int) -> None:
        if not space.variables:
            raise BudgetError("there is nothing to tune: the plan has no variables")
        self.settings = settings
        self.space = space
        self.seed = seed

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of what the tuner must be told: `score` and costs. What a budget can count (`macs`, `parameters`,
        `activations`, `latency`) is there when it is named here, everything else must come from the evaluation.
        """
        return ("score",)

    @abstractmethod
    def ask(self, n: int = 1) -> list[Candidate]:
        """Up to `n` candidates to score next, each within the budget; none, when all have been told, ends the search."""

    @abstractmethod
    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        """The objectives of a candidate. `score` is what the search maximises; `macs`, `parameters`, what the search's budget
        counts, what `objectives` names and what else the evaluation gives are costs, lower is better (`activations` in bytes,
        `latency` in seconds, predicted from measured layers).
        """

    def merit(self, objectives: Mapping[str, float]) -> float:
        """What makes a candidate the search's best, higher is better. Default: its score."""
        return objectives["score"]

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as JSON data; what was asked and not told yet is asked again after it."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
