"""Where to spend a budget of MACs: one ratio for all, the least total loss by the variables' curves, and budget repair.

Costs come from one function of a whole candidate, because what a choice saves depends on its neighbours (a convolution costs
inputs times outputs). `allocate` first reads that function into tables of single choices and of interacting pairs. Tables
without pairs are a multiple-choice knapsack, solved exactly. Pairs need a Lagrangian, whose inner minimum is exact by
eliminating one variable at a time, and then an exchange of choices between two variables at a time. Nothing here is random.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_plugins.core.cost_tables import Array, CostMemo, CostTables, Macs
from amc_plugins.core.errors import BudgetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from amc_plugins.compression import Candidate, Variable

__all__ = ["allocate", "repair", "spend"]

_NEAR = 0.01
"""A target counts as met when at most this share of the full network's MACs is left unspent."""
_SMALL = 500_000
"""Spaces of at most so many candidates are searched exhaustively."""
_STATES = 4000
"""Partial solutions kept by the knapsack; below this number it is exact."""


def spend(variables: Sequence[Variable], macs: Macs, budget: float, value: Callable[[Variable, float], int]) -> Candidate:
    """One ratio for all: the smallest whose candidate fits `budget`, then single choices of the next smaller ratio that fit.

    Args:
        variables: what may be chosen.
        macs: exact MACs of a candidate.
        budget: MACs that the candidate may have.
        value: the admissible value that removes a ratio of a variable's MACs; falls as the ratio rises.

    Raises:
        BudgetError: even the ratio 1 is over the budget; the message gives the reachable range.
    """
    cost = CostMemo(variables, macs)

    def at(ratio: float) -> tuple[int, ...]:
        return tuple(value(variable, ratio) if ratio > 0 else variable.full for variable in variables)

    low, high = 0.0, 1.0 - 1e-9
    if cost(at(low)) <= budget:
        return cost.candidate(at(low))
    if cost(at(high)) > budget:
        raise _beyond(budget, cost(at(high)), cost(at(low)))
    while high - low > 1e-7 and at(low) != at(high):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(at(middle)) <= budget else (middle, high)
    chosen, lighter = list(at(high)), at(low)
    for index in sorted(range(len(variables)), key=lambda index: -variables[index].loss(chosen[index])):
        trial = [*chosen[:index], lighter[index], *chosen[index + 1 :]]
        if cost(trial) <= budget:
            chosen = trial
    return cost.candidate(chosen)


def repair(variables: Sequence[Variable], macs: Macs, candidate: Mapping[str, int], budget: float) -> Candidate:
    """The candidate moved towards the small end (or, with MACs to spare, the full end) until it just fits, and then filled up.

    All values move by the same share of their way and are rounded down to admissible ones; what is left of the budget goes to
    single steps up, in the order of what rounding took. Repairing twice changes nothing. Values of unordered variables
    stay, unless no candidate with them fits: then they change to the cheapest, as few as it takes.

    Raises:
        BudgetError: the smallest candidate is over the budget; the message gives the reachable range.
    """
    cost = CostMemo(variables, macs)
    start = np.array([float(candidate[variable.name]) for variable in variables])
    small = np.array([float(variable.choices[0]) for variable in variables])
    full = np.array([float(variable.full) for variable in variables])
    kinds = [index for index, variable in enumerate(variables) if not variable.ordered]
    if kinds:
        small[kinds] = full[kinds] = start[kinds] = _kinds_that_fit(variables, cost, start, small, kinds, budget)
    if cost(_rounded_down(variables, small)) > budget:
        raise _beyond(budget, cost(_rounded_down(variables, small)), cost(_rounded_down(variables, full)))
    over = cost(_rounded_down(variables, start)) > budget
    first, last = (small, start) if over else (start, full)
    low, high = 0.0, 1.0
    if cost(_rounded_down(variables, last)) <= budget:
        low = 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        fits = cost(_rounded_down(variables, first + middle * (last - first))) <= budget
        low, high = (middle, high) if fits else (low, middle)
    wanted = first + low * (last - first)
    chosen = _rounded_down(variables, wanted)
    if cost(chosen) > budget:  # MACs that do not fall with the values: only the small end is sure to fit
        chosen = _rounded_down(variables, small)
    lost = [(want - got) / max(1, variable.full) for want, got, variable in zip(wanted, chosen, variables, strict=True)]
    order = sorted(range(len(variables)), key=lambda index: (-lost[index], index))
    return cost.candidate(_filled(variables, cost, chosen, budget, order))


def allocate(variables: Sequence[Variable], macs: Macs, budget: float) -> Candidate:
    """The candidate of least total loss (see `Variable.losses`) within the budget, used up to 1 % where choices allow.

    Exact in small spaces and where MACs are a sum over variables; where they couple variables, a Lagrangian optimum improved by
    exchanges. If a variable has no error curve, all move by one share instead, as in `repair`.

    Raises:
        BudgetError: no candidate fits; the message gives the reachable range.
    """
    cost = CostMemo(variables, macs)
    full = [variable.full for variable in variables]
    if cost(full) <= budget:
        return cost.candidate(full)
    if any(variable.errors is None for variable in variables):
        return repair(variables, macs, cost.candidate(full), budget)
    tables = CostTables(variables, cost)
    chosen = tables.cheapest()
    if tables.cost(chosen) > budget:
        raise _beyond(budget, cost(tables.values(chosen)), cost(full))
    if math.prod(tables.sizes) <= _SMALL:
        chosen = _exhaustive(tables, budget)
    else:
        chosen, price = _lagrangian(tables, chosen, budget)
        chosen = _exchange(tables, chosen, budget)
        if not tables.pairs:
            chosen = _knapsack(tables, chosen, price, budget)
        chosen = _close_gap(tables, chosen, budget)
    values = tables.values(chosen)
    if cost(values) > budget:  # the tables hold products of pairs and of triples only; other MACs need the exact function
        values = tuple(repair(variables, macs, cost.candidate(values), budget).values())
    order = sorted(range(len(variables)), key=lambda index: (-variables[index].loss(values[index]), index))
    filled = _filled(variables, cost, list(values), budget, order, gainful=True)
    if cost(filled) < budget - _NEAR * cost(full):
        filled = _filled(variables, cost, filled, budget, order)
    return cost.candidate(filled)


def _kinds_that_fit(
    variables: Sequence[Variable], cost: CostMemo, start: Array, small: Array, kinds: list[int], budget: float
) -> Array:
    """The values of unordered variables, changed to the cheapest beside small neighbours until the budget can be met."""
    least = small.copy()
    least[kinds] = start[kinds]

    def of(index: int, choice: int) -> int:
        return cost([choice if place == index else int(value) for place, value in enumerate(least)])

    for index in kinds:
        if cost([int(value) for value in least]) <= budget:
            break
        least[index] = min(variables[index].choices, key=lambda choice: of(index, choice))
    chosen: Array = least[kinds]
    return chosen


def _beyond(budget: float, least: int, most: int) -> BudgetError:
    return BudgetError(
        f"a budget of {budget:,.0f} cannot be met: candidates cost {least:,} to {most:,}", hint="ask for a larger budget"
    )


def _rounded_down(variables: Sequence[Variable], wanted: Array) -> list[int]:
    return [
        variable.choices[max(0, bisect_right(variable.choices, want + 1e-9) - 1)]
        for variable, want in zip(variables, wanted, strict=True)
    ]


def _filled(
    variables: Sequence[Variable],
    cost: CostMemo,
    chosen: list[int],
    budget: float,
    order: Sequence[int],
    *,
    gainful: bool = False,
) -> list[int]:
    """Steps up to the next choice, variable by variable in `order`, until none fits the budget any more.

    `gainful` steps are only those that lower the loss: a dead channel does not come back because it can be afforded.
    """
    moved = True
    while moved:
        moved = False
        for index in order:
            variable = variables[index]
            place = variable.choices.index(chosen[index])
            if chosen[index] == variable.full or place + 1 == len(variable.choices) or not variable.ordered:
                continue
            up = variable.choices[place + 1]
            before, after = variable.loss(chosen[index]), variable.loss(up)
            trial = [*chosen[:index], up, *chosen[index + 1 :]]
            if (after < before if gainful else after <= before) and cost(trial) <= budget:
                chosen, moved = trial, True
    return chosen


def _lagrangian(tables: CostTables, within: list[int], budget: float) -> tuple[list[int], float]:
    """The vertex of the lower convex hull of (cost, error) next to the budget from within, and the price of its edge."""
    over = list(tables.full)
    price = 0.0
    for _ in range(60):
        saved = tables.cost(over) - tables.cost(within)
        risen = tables.loss(within) - tables.loss(over)
        if saved <= 0 or risen <= 0:
            break
        price = risen / saved
        found = tables.minimum(price, within)
        level = tables.loss(found) + price * tables.cost(found)
        if level >= tables.loss(within) + price * tables.cost(within) - 1e-12 * (risen + abs(level)):
            break
        within, over = (found, over) if tables.cost(found) <= budget else (within, found)
    return within, price


def _pairs(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i + 1, n)] or [(0, 0)]


def _exchange(tables: CostTables, chosen: list[int], budget: float) -> list[int]:
    """Change two variables at a time to the best pair of choices within the budget, until no pair improves."""
    pairs = _pairs(len(chosen))
    for _ in range(max(2, 60_000 // len(pairs))):
        before = list(chosen)
        for i, j in pairs:
            chosen = _best_pair(tables, chosen, i, j, -np.inf, budget, keep=True)
        if chosen == before:
            break
    return chosen


def _best_pair(tables: CostTables, chosen: list[int], i: int, j: int, least: float, most: float, *, keep: bool) -> list[int]:
    """`chosen` with the choices of `i` and `j` that have the least error among costs in [least, most].

    With `keep` the present choices stay unless the error falls; without it they stay only if nothing is in the range.
    """
    cost = tables.cost(chosen)
    if i == j:
        row = tables.given(i, chosen)
        costs = (cost - row[chosen[i]] + row)[:, None]
        errors = tables.losses[i][:, None]
    else:
        rows, columns = tables.given(i, chosen), tables.given(j, chosen)
        joint = tables.joint(i, j, chosen)
        costs = cost - rows[chosen[i]] - columns[chosen[j]] + rows[:, None] + columns[None, :]
        if joint is not None:
            costs = costs + joint[chosen[i], chosen[j]] - joint[:, chosen[j]][:, None] - joint[chosen[i]][None, :] + joint
        errors = tables.losses[i][:, None] + tables.losses[j][None, :]
    inside = (costs <= most + 1e-6) & (costs >= least)
    if not inside.any():
        return chosen
    masked = np.where(inside, errors, np.inf)
    a, b = divmod(int(masked.argmin()), masked.shape[1])
    present = tables.losses[i][chosen[i]] + (tables.losses[j][chosen[j]] if i != j else 0.0)
    if keep and not masked[a, b] < present - 1e-12 * (1.0 + abs(present)):
        return chosen
    changed = list(chosen)
    changed[i] = a
    if i != j:
        changed[j] = b
    return changed


def _close_gap(tables: CostTables, chosen: list[int], budget: float) -> list[int]:
    """If more than 1 % of the full MACs is unspent: the least bad change that lands within it, if there is one."""
    least = budget - _NEAR * tables.base
    if tables.cost(chosen) >= least:
        return chosen
    best: list[int] | None = None
    for i, j in _pairs(len(chosen)):
        trial = _best_pair(tables, chosen, i, j, least, budget, keep=False)
        if trial is not chosen and (best is None or tables.loss(trial) < tables.loss(best)):
            best = trial
    return chosen if best is None else best


def _exhaustive(tables: CostTables, budget: float) -> list[int]:
    """The least error of all candidates that leave at most 1 % unspent, or of all that fit if none does."""
    n = len(tables.sizes)
    costs, errors = np.full(tables.sizes, tables.base), np.zeros(tables.sizes)
    for i in range(n):
        along = [-1 if k == i else 1 for k in range(n)]
        costs += tables.single[i].reshape(along)
        errors += tables.losses[i].reshape(along)
    for key, table in [*tables.pairs.items(), *tables.triples.items()]:
        costs += table.reshape([tables.sizes[k] if k in key else 1 for k in range(n)])
    fits = costs <= budget + 1e-6
    near = fits & (costs >= budget - _NEAR * tables.base)
    found = int(np.where(near if near.any() else fits, errors, np.inf).argmin())
    return [int(place) for place in np.unravel_index(found, tables.sizes)]


def _knapsack(tables: CostTables, chosen: list[int], price: float, budget: float) -> list[int]:
    """Multiple-choice knapsack over separable costs: undominated partial sums, cut by the Lagrangian bound against `chosen`.

    Exact as long as at most `_STATES` partial sums survive a step; beyond that they are thinned over the cost axis.
    """
    n = len(chosen)
    spare = budget - tables.base
    bounds = [float(np.min(tables.losses[i] + price * tables.single[i])) for i in range(n)]
    leanest = [float(tables.single[i].min()) for i in range(n)]
    best = tables.loss(chosen) + 1e-12
    costs, errors = np.zeros(1), np.zeros(1)
    trail: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for i in range(n):
        all_costs = (costs[:, None] + tables.single[i][None, :]).ravel()
        all_errors = (errors[:, None] + tables.losses[i][None, :]).ravel()
        ahead = sum(leanest[i + 1 :])
        bound = all_errors + price * (all_costs - spare) + sum(bounds[i + 1 :])
        live = np.flatnonzero((all_costs + ahead <= spare + 1e-6) & (bound <= best))
        if not len(live):
            return chosen
        live = live[np.lexsort((all_errors[live], all_costs[live]))]
        running = np.minimum.accumulate(all_errors[live])
        live = live[np.concatenate(([True], running[1:] < running[:-1]))]
        if len(live) > _STATES:
            live = live[np.unique(np.linspace(0, len(live) - 1, _STATES).astype(np.int64))]
        trail.append((live // tables.sizes[i], live % tables.sizes[i]))
        costs, errors = all_costs[live], all_errors[live]
    place = int(errors.argmin())
    if errors[place] >= tables.loss(chosen):
        return chosen
    found = [0] * n
    for i in reversed(range(n)):
        parents, picks = trail[i]
        found[i], place = int(picks[place]), int(parents[place])
    return found
