"""`log.txt` in a run's folder: what `-v` would print, whatever the terminal shows, and the traceback of a failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from amc_plugins.core.errors import AmcError
from amc_plugins.core.run_log import LOG
from amc_plugins.core.runs import Run


class Kept(logging.Handler):
    """Keeps the texts that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def terminal() -> Iterator[Kept]:
    """A root logger as a command without `-v` has it. No fixture: pytest sets the level anew when a test begins."""
    root = logging.getLogger()
    handlers, level, kept = root.handlers, root.level, Kept()
    root.handlers = [kept]
    root.setLevel(logging.WARNING)
    try:
        yield kept
    finally:
        root.handlers = handlers
        root.setLevel(level)


def test_the_file_has_more_than_the_terminal(tmp_path: Path) -> None:
    with terminal() as shown, Run("a run", tmp_path / "run") as run:
        run.epoch_ended(1, {"loss": 0.5})
        logging.getLogger("a_plugin.of.somebody").info("a plugin's remark")
        logging.getLogger("a_plugin").warning("a warning")
        logging.getLogger("a_plugin").debug("a detail")
    text = (tmp_path / "run" / LOG).read_text()
    assert shown.texts == ["a warning"]
    for words in (
        "started: a run (amc-plugins ",
        "epoch 1: loss 0.5",
        "a plugin's remark",
        "WARNING a_plugin: a warning",
        "ended",
    ):
        assert words in text
    assert "a detail" not in text
    with terminal() as shown:
        with Run("a run", tmp_path / "run"):
            pass
        logging.getLogger("a_plugin").info("afterwards")
        assert logging.getLogger().handlers == [shown] and not shown.filters and shown.texts == []


def test_a_failure_is_there_with_its_traceback_and_the_next_run_is_added(tmp_path: Path) -> None:
    with terminal() as shown:
        with pytest.raises(ZeroDivisionError), Run("first", tmp_path):
            _ = 1 / 0
        with pytest.raises(KeyboardInterrupt), Run("second", tmp_path):
            raise KeyboardInterrupt
    text = (tmp_path / LOG).read_text()
    assert text.index("started: first") < text.index("failed: ZeroDivisionError") < text.index("started: second")
    assert (
        "Traceback (most recent call last)" in text and "_ = 1 / 0" in text and "WARNING amc_plugins.run: interrupted" in text
    )
    assert shown.texts == []


def test_runs_inside_runs_keep_apart(tmp_path: Path) -> None:
    with terminal() as shown, Run("outer", tmp_path / "outer"):
        with Run("inner", tmp_path / "inner"):
            logging.getLogger("x").info("both")
        logging.getLogger("x").info("outer alone")
    assert "outer alone" not in (tmp_path / "inner" / LOG).read_text()
    assert (tmp_path / "outer" / LOG).read_text().count("both") == 1 and shown.texts == []


def test_warnings_are_shown_where_nobody_set_logging_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal():
        logging.getLogger().handlers = []
        with Run("a run", tmp_path):
            logging.getLogger("x").warning("look here")
            logging.getLogger("x").info("not here")
        assert logging.getLogger().handlers == []
    assert capsys.readouterr().err == "look here\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AmcError, match=r"the run's folder `.*file/run` cannot be made: Not a directory") as caught:
        Run("a run", tmp_path / "file" / "run")
    assert caught.value.hint
