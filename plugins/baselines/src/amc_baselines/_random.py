"""Random search over a plan's variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from amc_baselines.plugin import RandomSettings
from amc_plugins.tuning import Candidate, Space, Tuner

__all__ = ["RandomTuner"]

_PATIENCE = 1000
"""Draws in a row without anything new after which the space counts as exhausted."""


class RandomTuner(Tuner):
    """The space's starts, then independent uniform choices repaired to the budget; no candidate twice.

    What was asked and not told is asked again after `restore`.
    """

    settings: RandomSettings

    def __init__(self, settings: RandomSettings, space: Space, seed: int) -> None:
        super().__init__(settings, space, seed)
        self._rng = np.random.default_rng(seed)
        self._names = [variable.name for variable in space.variables]
        self._waiting: list[Candidate] = list(dict.fromkeys(space.starts)) if settings.from_allocations else []
        self._asked: list[Candidate] = []
        """Asked, not told yet."""
        self._seen: set[Candidate] = set(self._waiting)

    def ask(self, n: int = 1) -> list[Candidate]:
        given: list[Candidate] = []
        misses = 0
        while len(given) < n and misses < _PATIENCE:
            if self._waiting:
                given.append(self._waiting.pop(0))
                continue
            drawn = self.space.draw(self._rng)
            if drawn in self._seen:
                misses += 1
                continue
            misses = 0
            self._seen.add(drawn)
            given.append(drawn)
        self._asked += given
        return given

    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        """Scores do not steer this search; a candidate told is not proposed any more."""
        self._seen.add(candidate)
        self._asked = [one for one in self._asked if one != candidate]
        self._waiting = [one for one in self._waiting if one != candidate]

    def state(self) -> dict[str, Any]:
        def rows(candidates: list[Candidate]) -> list[list[int]]:
            return [[candidate[name] for name in self._names] for candidate in candidates]

        return {
            "rng": self._rng.bit_generator.state,
            "waiting": rows([*self._asked, *self._waiting]),
            "seen": sorted(rows(list(self._seen))),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        def candidates(rows: list[list[int]]) -> list[Candidate]:
            return [Candidate(dict(zip(self._names, row, strict=True))) for row in rows]

        self._rng.bit_generator.state = state["rng"]
        self._waiting = candidates(state["waiting"])
        self._asked = []
        self._seen = set(candidates(state["seen"]))
