"""The live table of a search on a terminal, as an observer of the run. Imported when a run begins: hooks need pluggy."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from amc_plugins.cli import render
from amc_plugins.core.hookspecs import hookimpl

__all__ = ["SearchBar"]

_SHOWN = 5
"""Candidates in the table."""


class SearchBar:
    """Counts candidates and shows the best of them with their objectives. It appears with the first candidate.

    Training draws bars of its own, so this one is gone as soon as the search is over.
    """

    def __init__(self, evaluations: int | None, stack: ExitStack) -> None:
        self._evaluations = evaluations
        self._stack = stack
        self._show: Any = None
        self._count = 0
        self._best: list[tuple[int, Mapping[str, float]]] = []

    @hookimpl
    def amc_candidate_scored(self, objectives: Mapping[str, float]) -> None:
        if self._show is None:
            self._show = self._stack.enter_context(render.live_table("search", self._evaluations))
        self._count += 1
        ranked = sorted([*self._best, (self._count, dict(objectives))], key=lambda one: -one[1]["score"])
        self._best = ranked[:_SHOWN]
        names = list(dict.fromkeys(name for _, one in self._best for name in one))
        rows = [[str(number), *(_figure(one.get(name)) for name in names)] for number, one in self._best]
        self._show(f"search: {self._count} scored, best {self._best[0][1]['score']:.5g}", ["candidate", *names], rows)

    @hookimpl
    def amc_layer_compressed(self) -> None:
        self._close()

    @hookimpl
    def amc_epoch_ended(self) -> None:
        self._close()

    @hookimpl
    def amc_run_ended(self) -> None:
        self._close()

    def _close(self) -> None:
        self._stack.close()
        self._show, self._count, self._best = None, 0, []


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.5g}"
