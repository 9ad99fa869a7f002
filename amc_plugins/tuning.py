"""The contract of a tuner: `Tuner`, and the `Space` it searches. This module is its reference page."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amc_plugins.compression import Candidate, Plan, Variable
from amc_plugins.core.allocation import repair
from amc_plugins.core.errors import BudgetError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Candidate", "Space", "Tuner", "Variable"]


@dataclass(frozen=True)
class Space:
    """The ordered variables of a plan, their exact costs and the budget.

    `budget` is in MACs of one sample; every candidate handed to `Tuner.tell` fits it.
    """

    variables: tuple[Variable, ...]
    macs: Callable[[Mapping[str, int]], int]
    budget: float
    starts: tuple[Candidate, ...] = ()
    """Candidates worth scoring first: the plan's own allocation and the uniform one."""

    @classmethod
    def of(cls, plan: Plan, total: float) -> Space:
        """The space of a plan whose candidates must remove at least the share `total` of the MACs.

        Raises:
            BudgetError: the plan cannot reach `total`.
        """
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
    """A search. `ask` proposes, `tell` reports; `state` and `restore` make a killed search go on with the same trajectory."""

    def __init__(self, settings: Any, space: Space, seed: int) -> None:
        if not space.variables:
            raise BudgetError("there is nothing to tune: the plan has no variables")
        self.settings = settings
        self.space = space
        self.seed = seed

    @abstractmethod
    def ask(self, n: int = 1) -> list[Candidate]:
        """Up to `n` candidates to score next, each within the budget; an empty list ends the search."""

    @abstractmethod
    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        """The objectives of a candidate, higher is better; `score` is the one that the search maximises."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as JSON data."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
