"""The contract of a tuner: `Tuner`, and the `Space` it searches. This module is its reference page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amc_plugins.compression import Candidate, Plan, Variable
from amc_plugins.core.allocation import repair
from amc_plugins.core.budgets import cost_of, starts_of
from amc_plugins.core.errors import BudgetError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["STARTS", "Candidate", "Space", "Tuner", "Variable"]

STARTS = ("allocation", "uniform")
"""What the candidates of `Space.starts` are, in order."""


@dataclass(frozen=True)
class Space:
    """The ordered variables of a plan, their exact costs and the budget.

    `budget` is in MACs of one sample (of parameters in a search with that budget, and `macs` counts them then); every candidate
    handed to `Tuner.tell` fits it.
    """

    variables: tuple[Variable, ...]
    macs: Callable[[Mapping[str, int]], int]
    budget: float
    starts: tuple[Candidate, ...] = ()
    """Candidates worth scoring first: the plan's own allocation by error curves, and one ratio for all."""

    @classmethod
    def of(cls, plan: Plan, total: float, budget: str = "macs") -> Space:
        """The space of a plan whose candidates must remove at least the share `total` of the MACs, or of the parameters.

        Raises:
            BudgetError: the plan cannot reach `total`.
            SettingsError: nothing like `budget` can be counted.
        """
        if budget != "macs":
            cost = cost_of(plan, budget)
            return cls(tuple(plan.variables), cost, (1.0 - total) * cost(plan.full), starts_of(plan, cost, total))
        starts = (plan.candidate(total=total), plan.candidate(total=total, allocation="uniform"))
        return cls(tuple(plan.variables), plan.macs, (1.0 - total) * plan.macs(plan.full), starts)

    def repair(self, candidate: Mapping[str, int], budget: float | None = None) -> Candidate:
        """The nearest candidate within the budget that uses it up: scaled towards the small or the full end, then rounded.

        Raises:
            BudgetError: even the smallest candidate is over the budget.
        """
        return repair(self.variables, self.macs, candidate, self.budget if budget is None else budget)

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

    @abstractmethod
    def ask(self, n: int = 1) -> list[Candidate]:
        """Up to `n` candidates to score next, each within the budget; none, when all have been told, ends the search."""

    @abstractmethod
    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        """The objectives of a candidate. `score` is what the search maximises; `macs`, `parameters` and what else the
        evaluation gives are costs, lower is better.
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
