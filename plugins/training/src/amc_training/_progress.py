"""Progress on a terminal, nothing elsewhere. rich is imported only when there is something to show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress", "wanted"]


class Progress:
    """What the loop tells; this one shows nothing."""

    def begin(self, epoch: int, steps: int | None) -> None:
        """An epoch begins that has `steps` steps (None: unknown)."""

    def advance(self, loss: float) -> None:
        """One step is done."""

    def note(self, text: str) -> None:
        """How the last epoch went."""


def wanted() -> bool:
    """Whether standard error is a terminal that somebody watches (`CI` and `AMC_NO_PROGRESS` say that nobody does)."""
    return sys.stderr.isatty() and not (os.environ.get("CI") or os.environ.get("AMC_NO_PROGRESS"))


@contextmanager
def progress(epochs: int, done: int) -> Iterator[Progress]:
    """A bar for the epochs and one for the steps of each, on a terminal only; it vanishes at the end."""
    if not wanted():
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True) as bars:
        all_epochs = bars.add_task("epochs", total=epochs, completed=done, note="")
        steps = bars.add_task("steps", total=None, note="")

        class Shown(Progress):
            def begin(self, epoch: int, steps_of_epoch: int | None) -> None:
                bars.update(all_epochs, completed=epoch - 1)
                bars.reset(steps, total=steps_of_epoch)

            def advance(self, loss: float) -> None:
                bars.update(steps, advance=1, note=f"loss {loss:.4g}")

            def note(self, text: str) -> None:
                bars.update(all_epochs, advance=1, note=text)

        yield Shown()
