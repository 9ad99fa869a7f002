"""The environment: one walk over the variables, what the agent sees on it, and the budget that its actions cannot break."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from amc_plugins.plugin import BudgetError
from amc_plugins.tuning import Candidate, Space, Variable

__all__ = ["FEATURES", "Fit", "Walk", "Walked"]

FEATURES = ("index", "out_channels", "in_channels", "height", "width", "stride", "kernel", "macs")
"""The static features of a variable, scaled to [0, 1] over the network; `reduced`, `rest` and the last action follow them."""


Fit = Literal["clip", "raise", "scale"]


@dataclass(frozen=True)
class Walked:
    """One episode: the states before each action, the raw actions, and the candidate that came of it."""

    states: tuple[tuple[float, ...], ...]
    """One more than actions: the last one ends the walk."""
    actions: tuple[float, ...]
    candidate: Candidate
    fit: Fit
    """How the actions were made to fit the budget."""


class Walk:
    """The variables of a space in running order.

    An action in [0, 1] is the share of a variable's MACs to preserve, counted from its cheapest choice (0) to its dearest (1),
    and rounded up to an admissible value. Candidates fit the budget by exact costs of whole ones, so coupled layers and layers
    whose costs multiply are right:

    - `clip` (Algorithm 1 of He et al., ECCV 2018, for any cost): a value is lowered to the largest that fits the budget when
      all later variables take their cheapest ones;
    - `raise`: and raised to the smallest with which the budget can still be used up;
    - `scale`: the values of the finished walk are scaled together, so that the last variables do not pay for the first. The
      walk that is given is the one that leads to the result.
    """

    def __init__(self, space: Space, *, fit: Fit) -> None:
        self.space = space
        self.fit: Fit = fit
        self.variables = _in_running_order(space.variables)
        self._total = space.macs({one.name: one.full for one in self.variables})
        full = {one.name: one.full for one in self.variables}
        costs = [[space.macs({**full, one.name: choice}) for choice in one.choices] for one in self.variables]
        self.ladders = [_Ladder(one, row) for one, row in zip(self.variables, costs, strict=True)]
        self._cheapest = {one.name: ladder.choices[0] for one, ladder in zip(self.variables, self.ladders, strict=True)}
        self._dearest = {one.name: ladder.choices[-1] for one, ladder in zip(self.variables, self.ladders, strict=True)}
        least = min(space.macs(self._cheapest), space.macs(space.cheapest))
        if least > space.budget:
            raise BudgetError(f"a budget of {space.budget:,.0f} cannot be met: the cheapest candidate costs {least:,}")
        spans = [float(ladder.costs[-1] - ladder.costs[0]) for ladder in self.ladders]
        own = [variable.features.get("macs", span) for variable, span in zip(self.variables, spans, strict=True)]
        total = sum(own) or 1.0
        self._rest = [sum(own[index + 1 :]) / total for index in range(len(own))]
        rows = [
            [variable.features.get(name, 0.0) if name not in ("index", "macs") else 0.0 for name in FEATURES]
            for variable in self.variables
        ]
        for index, row in enumerate(rows):
            row[0], row[-1] = float(index), own[index]
        self._static = _scaled(rows)

    @property
    def width(self) -> int:
        """Length of a state."""
        return len(FEATURES) + 3

    def run(self, act: Callable[[int, tuple[float, ...]], float], *, fit: Fit | None = None) -> Walked:
        """Walk; `act` maps the place and the state to a raw action. `fit` for this walk only, when given."""
        fit = fit or self.fit
        decided: dict[str, int] = {}
        states: list[tuple[float, ...]] = []
        actions: list[float] = []
        last = 1.0
        for index in range(len(self.variables)):
            states.append(self._state(index, decided, last))
            actions.append(act(index, states[-1]))
            place = self.ladders[index].place(actions[-1])
            if fit != "scale":
                place = self._clipped(index, place, decided, fit == "raise")
            decided[self.variables[index].name] = self.ladders[index].choices[place]
            last = self.ladders[index].shares[place]
        states.append(self._state(len(self.variables) - 1, decided, last))
        candidate = Candidate({one.name: decided[one.name] for one in self.space.variables})
        if fit == "scale":  # the walk that leads to what came of it
            return self.again(self.actions_of(self.space.repair(candidate)), fit="clip")
        if self.space.macs(candidate) > self.space.budget:  # MACs that do not rise with the values
            candidate = self.space.repair(candidate)
        return Walked(tuple(states), tuple(actions), candidate, fit)

    def again(self, actions: Sequence[float], *, fit: Fit | None = None) -> Walked:
        """The walk of given raw actions."""
        return self.run(lambda index, state: actions[index], fit=fit)

    def actions_of(self, candidate: Candidate) -> list[float]:
        """The actions that lead to a candidate with `clip`."""
        return [
            ladder.shares[ladder.choices.index(candidate[variable.name])]
            for variable, ladder in zip(self.variables, self.ladders, strict=True)
        ]

    def _state(self, index: int, decided: dict[str, int], last: float) -> tuple[float, ...]:
        reduced = 1.0 - self.space.macs({**self._dearest, **decided}) / self._total
        return (*self._static[index], reduced, self._rest[index], last)

    def _clipped(self, index: int, place: int, decided: dict[str, int], use_budget: bool) -> int:
        name, choices = self.variables[index].name, self.ladders[index].choices

        def cost(at: int, later: dict[str, int]) -> int:
            return self.space.macs({**later, **decided, name: choices[at]})

        while place > 0 and cost(place, self._cheapest) > self.space.budget:
            place -= 1
        while (
            use_budget
            and place + 1 < len(choices)
            and cost(place, self._dearest) < self.space.budget
            and cost(place + 1, self._cheapest) <= self.space.budget
        ):
            place += 1
        return place


class _Ladder:
    """The choices of one variable from the cheapest to the dearest, and the share of its MACs that each preserves."""

    def __init__(self, variable: Variable, costs: Sequence[int]) -> None:
        order = sorted(range(len(costs)), key=lambda index: (costs[index], variable.choices[index]))
        self.choices = [variable.choices[index] for index in order]
        self.costs = [costs[index] for index in order]
        least, most = self.costs[0], self.costs[-1]
        steps = max(1, len(order) - 1)
        distinct = variable.ordered and len(set(self.costs)) == len(self.costs)
        self.shares = [
            (cost - least) / (most - least) if distinct and most > least else step / steps
            for step, cost in enumerate(self.costs)
        ]

    def place(self, action: float) -> int:
        """The place of the smallest choice that preserves the share `action`."""
        return next((step for step, share in enumerate(self.shares) if share >= action - 1e-9), len(self.shares) - 1)


def _in_running_order(variables: Sequence[Variable]) -> list[Variable]:
    if all("index" in variable.features for variable in variables):
        return sorted(variables, key=lambda variable: variable.features["index"])
    return list(variables)


def _scaled(rows: list[list[float]]) -> list[tuple[float, ...]]:
    """Every column to [0, 1]; a constant one to 0."""
    lows = [min(column) for column in zip(*rows, strict=True)]
    spans = [max(column) - min(column) for column in zip(*rows, strict=True)]
    return [
        tuple((value - low) / span if span > 0 else 0.0 for value, low, span in zip(row, lows, spans, strict=True))
        for row in rows
    ]
