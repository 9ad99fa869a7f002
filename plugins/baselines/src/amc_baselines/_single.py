"""Tuners of one candidate: what a plan proposes without a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from amc_plugins.plugin import SettingsError
from amc_plugins.tuning import STARTS, Candidate, Space, Tuner

__all__ = ["AllocationTuner", "UniformTuner"]


class _SingleTuner(Tuner):
    """Asks for one of the space's starts, then ends.

    Raises:
        SettingsError: the space has no such start.
    """

    start: ClassVar[str]

    def __init__(self, settings: Any, space: Space, seed: int) -> None:
        super().__init__(settings, space, seed)
        found = dict(zip(STARTS, space.starts, strict=False))
        if self.start not in found:
            raise SettingsError(f"this space has no candidate `{self.start}`; its starts are {list(found)}")
        self._candidate = found[self.start]
        self._asked = False
        self._told = False

    def ask(self, n: int = 1) -> list[Candidate]:
        if self._asked or n < 1:
            return []
        self._asked = True
        return [self._candidate]

    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        self._told = self._told or candidate == self._candidate

    def state(self) -> dict[str, Any]:
        return {"told": self._told}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._asked = self._told = bool(state["told"])


class AllocationTuner(_SingleTuner):
    """The least total error by the variables' curves, within the budget."""

    start = "allocation"


class UniformTuner(_SingleTuner):
    """One ratio for all variables."""

    start = "uniform"
