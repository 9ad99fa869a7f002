"""What the command line prints: data on stdout, the rest on stderr. The only module that uses rich, and only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from amc_plugins.cli.state import options

__all__ = ["document", "error", "fields", "live_table", "note", "progress", "table", "text"]

SCHEMA = 1
"""Version of the JSON documents that `--json` prints."""


def text(line: str = "") -> None:
    """One line of data."""
    sys.stdout.write(line + "\n")


def document(content: Mapping[str, Any]) -> None:
    """One JSON document, with its schema number first."""
    text(json.dumps({"schema": SCHEMA, **content}, ensure_ascii=False, indent=2))


def fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        text(f"{name:<{width}}  {value}".rstrip())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table of data: drawn on a terminal, plain aligned columns (never cut) elsewhere. `right` are the columns of numbers."""
    if not sys.stdout.isatty():
        _plain_table(columns, rows, right)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(file=sys.stdout, highlight=False, color_system="auto" if _colours(sys.stdout) else None).print(drawn)


_STYLES = {
    "broken": "red",
    "conflict": "red",
    "disabled": "dim",
    "failed": "red",
    "known": "yellow",
    "loaded": "green",
    "passed": "green",
    "skipped": "dim",
}


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    lines = [[name.upper() for name in columns], *([" ".join(cell.split()) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, line, widths, strict=True)
        ]
        text("  ".join(cells).rstrip())


def note(line: str) -> None:
    """A remark for the person at the terminal; `-q` leaves it out."""
    if not options().quiet:
        sys.stderr.write(line + "\n")


def error(message: str, hint: str | None = None) -> None:
    """`error: ...` and, after an empty line, `hint: ...`."""
    sys.stderr.write(f"{_painted('error:', '31')} {message}\n")
    if hint:
        sys.stderr.write(f"\n{_painted('hint:', '36')} {hint}\n")


def _painted(word: str, colour: str) -> str:
    return f"\x1b[1;{colour}m{word}\x1b[0m" if _colours(sys.stderr) else word


def _colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar on stderr while the block runs; yields `advance(steps=1, description=None)`.

    Silent when stderr is no terminal, with `-q`, and where `CI` or `AMC_NO_PROGRESS` is set.
    """
    if _silent():
        yield lambda steps=1, description=None: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: int = 1, description: str | None = None) -> None:
            bar.update(task, advance=steps, description=description)

        yield advance


@contextmanager
def live_table(
    description: str, total: int | None = None
) -> Iterator[Callable[[str, Sequence[str], Sequence[Sequence[str]]], None]]:
    """A bar with a table under it on stderr while the block runs; yields `show(description, columns, rows)`, which counts one
    step. Silent where `progress` is.
    """
    if _silent():
        yield lambda description, columns, rows: None
        return
    from rich import box
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import Progress
    from rich.table import Table

    console = Console(file=sys.stderr, highlight=False)
    bar = Progress(console=console)
    task = bar.add_task(description, total=total)
    with Live(bar, console=console, transient=True, refresh_per_second=8) as live:

        def show(description: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
            bar.update(task, advance=1, description=description)
            drawn = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
            for name in columns:
                drawn.add_column(name, justify="right", overflow="fold")
            for row in rows:
                drawn.add_row(*row)
            live.update(Group(bar, drawn))

        yield show


def _silent() -> bool:
    quiet = options().quiet or any(os.environ.get(name) for name in ("CI", "AMC_NO_PROGRESS"))
    return bool(quiet) or not sys.stderr.isatty()
