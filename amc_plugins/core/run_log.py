"""`log.txt` of a run's folder: the records of `logging` from its start to its end, and the traceback of what ended it.

The file has what `-v` would print (INFO and above, also the records of plugins), whatever the terminal shows.
"""

from __future__ import annotations

import logging
import platform
import sys
from pathlib import Path
from types import TracebackType

from amc_plugins import __version__

__all__ = ["LOG", "RunLog"]

LOG = "log.txt"
_FORM = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class RunLog:
    """Appends to `folder/log.txt` while it is open. What other handlers print is as it was before."""

    def __init__(self, folder: Path, title: str) -> None:
        self._title = title
        self._handler = logging.FileHandler(folder / LOG, encoding="utf-8", delay=True)
        self._handler.setFormatter(_FORM)
        self._level = logging.NOTSET
        self._spared: list[logging.Handler] = []
        self._stands_in: logging.Handler | None = None

    def open(self) -> None:
        """Begin to listen."""
        root = logging.getLogger()
        self._level = root.level
        if not root.handlers and logging.lastResort is not None:  # it prints warnings only where nothing else listens
            self._stands_in = logging.lastResort
            root.addHandler(self._stands_in)
        self._spared = list(root.handlers)
        for one in self._spared:
            one.addFilter(self._as_before)
        root.addHandler(self._handler)
        root.setLevel(min(self._level, logging.INFO))
        self._say(logging.INFO, f"started: {self._title} (amc-plugins {__version__}, {_versions()})")

    def close(self, error: BaseException | None) -> None:
        """Stop, and write what ended the run, with its traceback."""
        if error is None:
            self._say(logging.INFO, "ended")
        elif isinstance(error, KeyboardInterrupt):
            self._say(logging.WARNING, "interrupted")
        else:
            self._say(logging.ERROR, f"failed: {type(error).__name__}: {error}", error)
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level)
        for one in self._spared:
            one.removeFilter(self._as_before)
        if self._stands_in is not None:
            root.removeHandler(self._stands_in)
        self._handler.close()

    def _as_before(self, record: logging.LogRecord) -> bool:
        """A filter of the handlers that were there: the lower level of the root logger is for the file alone."""
        own = logging.getLogger(record.name)
        while own.parent is not None and own.level == logging.NOTSET:
            own = own.parent
        return record.levelno >= (self._level if own.parent is None else own.level)

    def _say(self, level: int, text: str, error: BaseException | None = None) -> None:
        trace: tuple[type[BaseException], BaseException, TracebackType | None] | None = None
        if error is not None:
            trace = (type(error), error, error.__traceback__)
        self._handler.handle(logging.LogRecord("amc_plugins.run", level, __file__, 0, text, None, trace))


def _versions() -> str:
    torch = sys.modules.get("torch")
    known = f", torch {torch.__version__}" if torch is not None else ""
    return f"Python {platform.python_version()}{known}"
