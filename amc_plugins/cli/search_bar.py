"""The bar of a search on a terminal, as an observer of the run. Imported when a run begins: hooks need pluggy."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from amc_plugins.cli import render
from amc_plugins.core.hookspecs import hookimpl

__all__ = ["SearchBar"]


class SearchBar:
    """Counts candidates and shows the best score. It appears with the first candidate.

    Training draws bars of its own, so this one is gone as soon as the search is over.
    """

    def __init__(self, evaluations: int | None, stack: ExitStack) -> None:
        self._evaluations = evaluations
        self._stack = stack
        self._advance: Any = None
        self._count = 0
        self._best = float("-inf")

    @hookimpl
    def amc_candidate_scored(self, objectives: Mapping[str, float]) -> None:
        if self._advance is None:
            self._advance = self._stack.enter_context(render.progress("search", self._evaluations))
        self._count += 1
        self._best = max(self._best, objectives["score"])
        self._advance(description=f"search: {self._count} scored, best {self._best:.5g}")

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
        self._advance, self._count, self._best = None, 0, float("-inf")
