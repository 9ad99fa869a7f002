"""What a search's budget may count besides MACs, as a cost of candidates that can be asked for ten thousand times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_plugins.core.allocation import allocate, spend
from amc_plugins.core.errors import BudgetError, SettingsError

if TYPE_CHECKING:
    from amc_plugins.compression import Candidate, Plan, Variable

__all__ = ["BUDGETS", "cost_of", "starts_of"]

BUDGETS = ("macs", "parameters")
_PLANNED = ("memory", "latency")
_CHECKS = 4

Cost = Callable[[Mapping[str, int]], int]


def cost_of(plan: Plan, budget: str) -> Cost:
    """What `budget` counts of one candidate of a plan.

    Raises:
        SettingsError: it is not one of `BUDGETS`.
        BudgetError: the plan's parameters are no sum over its variables and pairs of them.
    """
    if budget == "macs":
        return plan.macs
    if budget in _PLANNED:
        raise SettingsError(
            f"a budget of {budget} is not implemented yet; there are {' and '.join(BUDGETS)}",
            hint="let `evaluate` give it by name, and search the front with `ga`, objectives=('score', 'latency')"
            if budget == "latency"
            else None,
        )
    if budget != "parameters":
        raise SettingsError(f"`budget` is one of {', '.join(BUDGETS)}; given was {budget!r}")
    return _PairwiseCost(plan.variables, lambda candidate: _parameters(plan, candidate))


def starts_of(plan: Plan, cost: Cost, total: float) -> tuple[Candidate, Candidate]:
    """The allocation by error curves and the uniform one that remove the share `total` of a cost.

    Raises:
        BudgetError: the plan cannot; the message gives the reachable range.
    """
    reachable = 1.0 - cost(plan.smallest) / cost(plan.full)
    if total > reachable + 1e-9:
        raise BudgetError(f"the share {total:g} cannot be removed: this plan reaches 0 to {reachable:.4f}")
    most = (1.0 - total) * cost(plan.full)
    return allocate(plan.variables, cost, most), spend(plan.variables, cost, most, plan.value)


def _parameters(plan: Plan, candidate: Mapping[str, int]) -> int:
    return sum(parameter.numel() for parameter in plan.assemble(candidate).parameters())


class _PairwiseCost:
    """`cost(v) = base + sum_i single_i(v_i) + sum_ij pair_ij(v_i, v_j)`, read off an expensive exact count.

    A single cost that is a parabola in the value (channel counts are) is read at three values and checked at two, else at all;
    a pair's is a product of the two values' distances from full, or the cost is refused.
    """

    def __init__(self, variables: Sequence[Variable], exact: Cost) -> None:
        self._variables = list(variables)
        self._exact = exact
        self._known: dict[tuple[int, ...], int] = {}
        self._full = [variable.full for variable in variables]
        self._base = self._at({})
        self._single = [self._singles(index) for index in range(len(variables))]
        self._pairs: dict[tuple[int, int], float] = {}
        for i in range(len(variables)):
            for j in range(i):
                a, b = self._farthest(i), self._farthest(j)
                joint = self._at({i: a, j: b}) - self._base - self._single[i][a] - self._single[j][b]
                if joint:
                    self._pairs[i, j] = joint / ((self._full[i] - a) * (self._full[j] - b))
        self._verify()

    def __call__(self, candidate: Mapping[str, int]) -> int:
        values = [candidate[variable.name] for variable in self._variables]
        away = [full - value for full, value in zip(self._full, values, strict=True)]
        total = self._base + sum(table[value] for table, value in zip(self._single, values, strict=True))
        return round(total + sum(rate * away[i] * away[j] for (i, j), rate in self._pairs.items()))

    def _at(self, changed: Mapping[int, int]) -> int:
        values = tuple(changed.get(index, full) for index, full in enumerate(self._full))
        if values not in self._known:
            self._known[values] = self._exact({one.name: value for one, value in zip(self._variables, values, strict=True)})
        return self._known[values]

    def _farthest(self, index: int) -> int:
        choices = self._variables[index].choices
        return max(choices, key=lambda choice: abs(choice - self._full[index]))

    def _singles(self, index: int) -> dict[int, float]:
        choices = self._variables[index].choices

        def ask(choice: int) -> float:
            return float(self._at({index: choice}) - self._base)

        if len(choices) > 5:
            places = [0, len(choices) // 2, len(choices) - 1]
            points = [float(choices[place]) for place in places]
            curve = np.polynomial.Polynomial.fit(points, [ask(choices[place]) for place in places], 2)
            checks = (choices[len(choices) // 4], choices[3 * len(choices) // 4])
            if all(math.isclose(float(curve(choice)), ask(choice), abs_tol=0.01) for choice in checks):
                return {choice: float(round(float(curve(choice)))) for choice in choices}
        return {choice: ask(choice) for choice in choices}

    def _verify(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(_CHECKS):
            drawn = {variable.name: int(rng.choice(variable.choices)) for variable in self._variables}
            if self(drawn) != self._exact(drawn):
                raise BudgetError(
                    "the parameters of this plan's candidates are no sum over its variables and pairs of them",
                    hint="use a budget of MACs",
                )
