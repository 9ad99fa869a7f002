"""The global options of one call of `amc`, and what they switch: logging, and which plugins are disabled."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Options", "apply", "options"]


@dataclass
class Options:
    """What was given before the command."""

    debug: bool = False
    """Print the traceback of an error."""
    verbosity: int = 0
    """The number of `-v` less the number of `-q`."""

    @property
    def quiet(self) -> bool:
        return self.verbosity < 0


_current = Options()


def options() -> Options:
    """The options of the running call."""
    return _current


def apply(given: Options, disable: Sequence[str]) -> Callable[[], None]:
    """Put the options into effect; the result takes them back, but for `options()`, which the report of an error still needs.

    `--disable` goes into `AMC_DISABLE`, so that worker processes leave out the same plugins.
    """
    global _current  # noqa: PLW0603 - one command line a process
    _current = given
    handler = _StderrHandler()
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    level_before = root.level
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(max(given.verbosity, -1), logging.DEBUG)
    root.addHandler(handler)
    root.setLevel(level)
    handler.setLevel(level)
    disabled_before = os.environ.get("AMC_DISABLE")
    if disable:
        os.environ["AMC_DISABLE"] = ",".join(filter(None, [disabled_before, *disable]))
        _forget_plugins()

    def restore() -> None:
        root.removeHandler(handler)
        root.setLevel(level_before)
        if disable:
            if disabled_before is None:
                del os.environ["AMC_DISABLE"]
            else:
                os.environ["AMC_DISABLE"] = disabled_before
            _forget_plugins()

    return restore


def _forget_plugins() -> None:
    """A registry made before knows nothing of a change; where none was made, the module need not be imported for it."""
    if (module := sys.modules.get("amc_plugins.core.registry")) is not None:
        module.reset_registry()


class _StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: tests and progress displays replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"
