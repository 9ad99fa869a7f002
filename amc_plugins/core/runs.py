"""A run: its folder, and the observers that are told what happens in it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pluggy

from amc_plugins.core import hookspecs
from amc_plugins.core.errors import AmcError, PluginError
from amc_plugins.core.run_log import RunLog

__all__ = ["Run"]

logger = logging.getLogger("amc_plugins.run")


class Run:
    """One piece of work from start to end. A context: observers are told when it starts and when, and why, it ends.

    What happens is logged too (`amc_plugins.run`, INFO), one line each, and kept in `log.txt` of the folder.

    Args:
        title: what it is, for people.
        folder: where its files go; None for work that leaves none. Made when missing.
        observers: objects with observer hooks, marked with `hookimpl`.
        steps: names of the steps to come, when they are known.

    Raises:
        PluginError: an observer has a hook that does not exist.
        AmcError: the folder cannot be made.
    """

    def __init__(
        self, title: str, folder: str | Path | None = None, observers: Iterable[object] = (), steps: tuple[str, ...] = ()
    ) -> None:
        self.title = title
        self.folder = None if folder is None else Path(folder)
        self.steps = steps
        self._log: RunLog | None = None
        if self.folder is not None:
            _make(self.folder)
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for observer in observers:
            self._manager.register(observer)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(
                f"an observer has a hook that does not exist: {error}", hint="see `amc_plugins.core.hookspecs`"
            ) from error

    def __enter__(self) -> Self:
        if self.folder is not None:
            self._log = RunLog(self.folder, self.title)
            self._log.open()
        try:
            self._manager.hook.amc_run_started(run=self)
        except BaseException as error:
            self._close_log(error)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._manager.hook.amc_run_ended(run=self, error=error)
        except BaseException as raised:
            self._close_log(raised)
            raise
        self._close_log(error)

    def _close_log(self, error: BaseException | None) -> None:
        if self._log is not None:
            self._log.close(error)
            self._log = None

    def layer_prepared(self, layer: str, done: int, count: int) -> None:
        """A compressor has done what does not depend on ratios for one layer or channel group, the `done`-th of `count`."""
        logger.info("prepared %s (%d of %d)", layer, done, count)
        self._manager.hook.amc_layer_prepared(run=self, layer=layer, done=done, count=count)

    def layer_compressed(self, layer: str, error: float, macs: int) -> None:
        """One layer has its final form: its relative response error, and what it costs now."""
        logger.info("%s: error %.3g, %s MACs", layer, error, f"{macs:,}")
        self._manager.hook.amc_layer_compressed(run=self, layer=layer, error=error, macs=macs)

    def candidate_scored(self, candidate: Mapping[str, int], objectives: Mapping[str, float]) -> None:
        """A search has scored one candidate."""
        logger.info("candidate: %s", _listed(objectives))
        self._manager.hook.amc_candidate_scored(run=self, candidate=candidate, objectives=objectives)

    def epoch_ended(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trainer has finished an epoch, counted from 1."""
        logger.info("epoch %d: %s", epoch, _listed(metrics))
        self._manager.hook.amc_epoch_ended(run=self, epoch=epoch, metrics=metrics)

    def artifact_written(self, path: str | Path) -> None:
        """A file of the run is complete on disk."""
        logger.info("wrote %s", path)
        self._manager.hook.amc_artifact_written(run=self, path=Path(path))

    def __getstate__(self) -> Any:
        raise TypeError("a Run belongs to its process; plans and results do not hold it")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"the run's folder `{folder}` cannot be made: {error.strerror or error}"
        raise AmcError(problem, hint="give another folder") from error


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in values.items())
