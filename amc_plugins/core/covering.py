"""Allocations for costs that are no sum over variables, and choices that are worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from amc_plugins.core.cost_tables import CostMemo, Macs

if TYPE_CHECKING:
    from amc_plugins.compression import Candidate, Variable

__all__ = ["cover", "undominated", "unforced"]

_FURTHER = 4
"""Choices of an ordered variable that are looked at beyond the nearest one that helps."""

Excess = Callable[[Mapping[str, int], float], float]


def cover(variables: Sequence[Variable], cost: Macs, excess: Excess, budget: float) -> Candidate:
    """Go down from the full candidate by the least loss per unit of `excess` taken away, until none is left; then back up
    wherever the budget allows. The greedy rule for covering several constraints at once (Dobson, Math. Oper. Res. 7, 1982): a
    peak has many places, and cutting one of them alone lowers nothing.

    The candidate is over the budget if nothing lowers the excess any more.
    """
    memo = CostMemo(variables, cost)
    values = [variable.full for variable in variables]

    def over(trial: Sequence[int]) -> float:
        return excess(memo.candidate(trial), budget)

    present = over(values)
    while present > 0.0:
        best: tuple[float, float, int, int] | None = None
        for index, variable in enumerate(variables):
            helped = 0
            for choice in _downwards(variable, values[index]):
                gain = present - over([*values[:index], choice, *values[index + 1 :]])
                if gain <= 0.0:
                    continue
                loss = max(0.0, variable.loss(choice) - variable.loss(values[index]))
                found = (loss / gain, -gain, index, choice)
                best = found if best is None or found < best else best
                helped += 1
                if variable.ordered and helped > _FURTHER:
                    break
        if best is None:
            break
        values[best[2]] = best[3]
        present = over(values)
    return memo.candidate(unforced(variables, memo, values, max(budget, memo(values))))


def _downwards(variable: Variable, value: int) -> list[int]:
    if variable.ordered:
        return [choice for choice in reversed(variable.choices) if choice < value]
    return [choice for choice in variable.choices if choice != value]


def unforced(variables: Sequence[Variable], cost: CostMemo, values: Sequence[int], budget: float) -> list[int]:
    """The values with less loss wherever the budget allows, most first."""
    chosen = list(values)
    moved = True
    while moved:
        moved = False
        for index in sorted(range(len(variables)), key=lambda index: (-variables[index].loss(chosen[index]), index)):
            variable = variables[index]
            present = variable.loss(chosen[index])
            better = [choice for choice in variable.choices if variable.loss(choice) < present]
            for choice in sorted(better, key=variable.loss):
                trial = [*chosen[:index], choice, *chosen[index + 1 :]]
                if cost(trial) <= budget:
                    chosen, moved = trial, True
                    break
    return chosen


def undominated(variables: Sequence[Variable], cost: Macs) -> list[Variable]:
    """The variables with the choices that pay: each costs less, beside whole neighbours, than every choice of no more loss.

    A decomposition that is slower than the layer is none, nor are 17 channels where 24 are as fast. Without an error curve, the
    larger of two values counts as the lesser loss.
    """
    memo = CostMemo(variables, cost)
    full = [variable.full for variable in variables]
    found = []
    for index, variable in enumerate(variables):
        costs = {choice: memo([*full[:index], choice, *full[index + 1 :]]) for choice in variable.choices}
        kept = {variable.full}
        least = costs[variable.full]
        others = [choice for choice in variable.choices if choice != variable.full]
        for choice in sorted(others, key=lambda choice: _rank(variable, choice, costs[choice])):
            if costs[choice] < least:
                kept.add(choice)
                least = costs[choice]
        found.append(_only(variable, kept))
    return found


def _rank(variable: Variable, choice: int, cost: int) -> tuple[float, int, int]:
    return (variable.loss(choice), cost, -choice) if variable.errors is not None else (-choice, cost, 0)


def _only(variable: Variable, kept: set[int]) -> Variable:
    places = [place for place, choice in enumerate(variable.choices) if choice in kept]

    def of(curve: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if curve is None else tuple(curve[place] for place in places)

    choices = tuple(variable.choices[place] for place in places)
    return replace(variable, choices=choices, errors=of(variable.errors), losses=of(variable.losses))
