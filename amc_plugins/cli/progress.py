"""What a working command shows while it works: an observer of its run, the lines of a recipe's steps, and how to go on.

Bars are for people at a terminal; elsewhere, with `-q` and with `--json` nothing is shown, and `-v` logs one line a step.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from amc_plugins.cli import render
from amc_plugins.cli.errors import Interrupted
from amc_plugins.cli.state import options

if TYPE_CHECKING:
    from amc_plugins.core.runs import Run

__all__ = ["quietly", "resumable", "step_lines", "watching", "working"]

_OFF = "AMC_NO_PROGRESS"


@contextmanager
def working(
    title: str,
    *,
    json: bool = False,
    folder: str | Path | None = None,
    evaluations: int | None = None,
    go_on: str | None = None,
    doing: str | None = None,
    observers: Sequence[str] | None = None,
) -> Iterator[Run]:
    """A run that the command line watches, and shows as `doing` while nothing else is to be shown.

    After Ctrl-C, `go_on` is the hint: how the work goes on where it stopped. `observers` are plugins that are told too.
    """
    from amc_plugins.core.registry import registry
    from amc_plugins.core.runs import Run

    told = registry().make_observers(observers or ())
    with quietly(json), resumable(go_on), watching(evaluations, doing) as shown, Run(title, folder, [shown, *told]) as run:
        yield run


@contextmanager
def watching(evaluations: int | None = None, doing: str | None = None) -> Iterator[object]:
    """The observer that draws; it leaves the terminal in order, whatever happens."""
    from amc_plugins.cli.search_bar import SearchBar

    with ExitStack() as stack:
        yield SearchBar(evaluations, stack, doing)


@contextmanager
def resumable(go_on: str | None) -> Iterator[None]:
    """Ctrl-C becomes an error with the hint `go_on`."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted", hint=go_on) from error


@contextmanager
def quietly(json: bool = False) -> Iterator[None]:
    """With `-q` or `--json` nothing draws, plugins included: they look at `AMC_NO_PROGRESS` as `render.progress` does."""
    if not (json or options().quiet) or os.environ.get(_OFF):
        yield
        return
    os.environ[_OFF] = "1"
    try:
        yield
    finally:
        del os.environ[_OFF]


@contextmanager
def step_lines(json: bool = False) -> Iterator[None]:
    """On a terminal, what a recipe's run says about each step is shown without `-v` too."""
    logger = logging.getLogger("amc_plugins.run.steps")
    if json or options().verbosity != 0 or not sys.stderr.isatty():
        yield
        return
    handler = _Notes()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:  # those the root logger prints
            render.note(record.getMessage())
