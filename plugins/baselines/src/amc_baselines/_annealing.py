"""Simulated annealing over a plan's variables (Kirkpatrick, Gelatt and Vecchi, Science 220, 1983)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from amc_baselines.plugin import AnnealingSettings
from amc_plugins.tuning import Candidate, Space, Tuner

__all__ = ["AnnealingTuner"]

_TRIES = 200
"""Moves tried for one that leads to another candidate; without any the search ends."""


class AnnealingTuner(Tuner):
    """A walk. A move takes one variable down and another up (an unordered one to any choice) and repairs to the budget; it is
    accepted if the score does not fall, else with the probability exp(change / temperature).

    The first temperature is the mean absolute change of the first `probes` moves, of which only improvements are accepted; each
    later move multiplies it with `cooling`. When `n` candidates are asked for at once, all are neighbours of the same place.
    """

    settings: AnnealingSettings

    def __init__(self, settings: AnnealingSettings, space: Space, seed: int) -> None:
        super().__init__(settings, space, seed)
        self._rng = np.random.default_rng(seed)
        self._names = [variable.name for variable in space.variables]
        starts = list(dict.fromkeys(space.starts)) if settings.from_allocations else []
        self._waiting: list[Candidate] = starts or [space.draw(self._rng)]
        self._first = len(self._waiting)
        """Starts still to be told."""
        self._asked: list[Candidate] = []
        self._place: Candidate | None = None
        self._score = -math.inf
        self._moves: list[float] = []
        """Absolute changes of the score in the first moves."""
        self._temperature = 0.0

    def ask(self, n: int = 1) -> list[Candidate]:
        given: list[Candidate] = []
        while len(given) < n:
            if self._waiting:
                given.append(self._waiting.pop(0))
                continue
            if self._place is None:  # the starts are out, and none has been told
                break
            moved = self._neighbour(self._place)
            if moved is None:
                break
            given.append(moved)
        self._asked += given
        return given

    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        if candidate not in self._asked:
            return
        self._asked.remove(candidate)
        score = self.merit(objectives)
        if self._first > 0:
            self._first -= 1
            if score > self._score:
                self._place, self._score = candidate, score
            return
        change = score - self._score
        if len(self._moves) < self.settings.probes:
            self._moves.append(abs(change))
            self._temperature = sum(self._moves) / len(self._moves)
            accepted = change >= 0
        else:
            self._temperature *= self.settings.cooling
            chance = math.exp(min(0.0, change) / self._temperature) if self._temperature > 0 else float(change >= 0)
            accepted = bool(self._rng.random() < chance)
        if accepted:
            self._place, self._score = candidate, score

    def _neighbour(self, place: Candidate) -> Candidate | None:
        variables = self.space.variables
        for _ in range(_TRIES):
            values = dict(place)
            picked = [int(one) for one in self._rng.permutation(len(variables))[:2]]
            for index, sign in zip(picked, (-1, 1), strict=False):
                variable = variables[index]
                at = variable.choices.index(values[variable.name])
                if variable.ordered:
                    longest = max(1, round(self.settings.step * (len(variable.choices) - 1)))
                    to = at + sign * int(self._rng.integers(1, longest + 1))
                else:
                    to = int(self._rng.integers(len(variable.choices)))
                values[variable.name] = variable.choices[min(max(to, 0), len(variable.choices) - 1)]
            moved = self.space.repair(Candidate(values))
            if moved != place:
                return moved
        return None

    def state(self) -> dict[str, Any]:
        def row(candidate: Candidate) -> list[int]:
            return [candidate[name] for name in self._names]

        return {
            "rng": self._rng.bit_generator.state,
            "waiting": [row(one) for one in [*self._asked, *self._waiting]],
            "first": self._first,
            "place": None if self._place is None else row(self._place),
            "score": None if self._place is None else self._score,
            "moves": list(self._moves),
            "temperature": self._temperature,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        def candidate(row: list[int]) -> Candidate:
            return Candidate(dict(zip(self._names, row, strict=True)))

        self._rng.bit_generator.state = state["rng"]
        self._waiting = [candidate(row) for row in state["waiting"]]
        self._asked = []
        self._first = int(state["first"])
        self._place = None if state["place"] is None else candidate(state["place"])
        self._score = -math.inf if state["score"] is None else float(state["score"])
        self._moves = [float(one) for one in state["moves"]]
        self._temperature = float(state["temperature"])
