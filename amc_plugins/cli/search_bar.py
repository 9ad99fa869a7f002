"""What a run shows on a terminal while it works, as its observer. Imported when a run begins: hooks need pluggy."""

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
    """Names the layer that was prepared last; then counts candidates and shows the best of them with their objectives.

    Training draws bars of its own, so what is drawn here is gone as soon as preparation or search is over. `doing` is shown
    from the start of the run until then.
    """

    def __init__(self, evaluations: int | None, stack: ExitStack, doing: str | None = None) -> None:
        self._evaluations = evaluations
        self._stack = stack
        self._doing = doing
        self._say: Any = None
        self._show: Any = None
        self._count = 0
        self._best: list[tuple[int, Mapping[str, float]]] = []

    @hookimpl
    def amc_run_started(self) -> None:
        if self._doing is not None:
            self._say = self._stack.enter_context(render.progress(self._doing))

    @hookimpl
    def amc_layer_prepared(self, layer: str, done: int, count: int) -> None:
        if self._say is None:
            self._say = self._stack.enter_context(render.progress("preparing"))
        self._say(0, f"{self._doing or 'preparing'}: {layer} ({done} of {count})")
        if done == count and self._doing is None:
            self._close()

    @hookimpl
    def amc_candidate_scored(self, objectives: Mapping[str, float]) -> None:
        if self._show is None:
            self._close()
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
        self._say, self._show, self._count, self._best = None, None, 0, []


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.5g}"
