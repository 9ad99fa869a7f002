"""Checks of observers: whole runs, told event by event."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amc_plugins.compression import Candidate
from amc_plugins.core.loading import LoadFailure, check_observer
from amc_plugins.core.runs import Run
from amc_plugins.testing.checks import Subject, check
from amc_plugins.testing.unchanged import steady_random_states

__all__ = ["Under"]


class Under(Subject):
    """An observer."""


@contextlib.contextmanager
def _elsewhere() -> Iterator[Path]:
    """A new working folder."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def _whole_run(observer: Any, folder: Path | None, error: BaseException | None = None) -> None:
    """All that a run can tell, twice over, as a recipe with two trainings does."""
    metrics = {"train/total_loss": 1.5, "val/accuracy": 0.5, "learning_rate": 0.1}
    objectives = {"score": -0.25, "macs": 1000.0}
    candidate = Candidate({"conv1": 3, "conv2": 5})
    given = (dict(metrics), dict(objectives), dict(candidate))
    with contextlib.suppress(KeyboardInterrupt, RuntimeError), Run("check", folder, [observer], ("compress", "train")) as run:
        for _ in range(2):
            run.layer_compressed("conv1", 0.01, 900)
            run.layer_compressed("conv2", float("nan"), 800)
            run.candidate_scored(candidate, objectives)
            for epoch in (1, 2):
                run.epoch_ended(epoch, metrics)
            if folder is not None:
                (folder / "network.json").write_text("{}")
                run.artifact_written(folder / "network.json")
        if error is not None:
            raise error
    assert (metrics, objectives, dict(candidate)) == given, "it changes the metrics, objectives or candidate that it is told"


@check("observers")
def check_hooks_exist(subject: Under) -> None:
    """Its hooks carry the marker, have the names of observer hooks, and take only arguments that these are told."""
    try:
        check_observer(subject.make())
    except LoadFailure as failure:
        raise AssertionError(failure.problem) from failure


@check("observers")
def check_whole_runs(subject: Under) -> None:
    """It goes through a whole run, one without a folder, and runs that end by an error or by Ctrl-C, and changes nothing it is
    told.
    """
    with _elsewhere() as here:
        for index, error in enumerate((None, RuntimeError("out of memory"), KeyboardInterrupt())):
            _whole_run(subject.make(), here / f"run{index}", error)
        _whole_run(subject.make(), None)


@check("observers")
def check_files_stay_in_the_run(subject: Under) -> None:
    """It writes into the run's folder and nowhere else, leaves what others wrote there, and nothing without a folder."""
    with _elsewhere() as here:
        folder = here / "runs" / "one"
        folder.mkdir(parents=True)
        (folder / "ours.txt").write_text("ours")
        _whole_run(subject.make(), folder)
        outside = [one for one in here.rglob("*") if one.is_file() and folder not in one.parents]
        assert not outside, f"it writes {outside[0].relative_to(here)}, outside the run's folder"
        assert (folder / "ours.txt").read_text() == "ours", "it changes a file that it did not write"
        before = {one for one in here.rglob("*") if one.is_file()}
        _whole_run(subject.make(), None)
        more = {one for one in here.rglob("*") if one.is_file()} - before
        assert not more, f"a run without a folder leaves {next(iter(more)).relative_to(here)}"


@check("observers")
def check_standard_output_is_left_alone(subject: Under) -> None:
    """Nothing goes to standard output, which belongs to the data of a command."""
    text = io.StringIO()
    with _elsewhere() as here, contextlib.redirect_stdout(text):
        _whole_run(subject.make(), here / "run")
    assert not text.getvalue(), f"it prints {text.getvalue()[:80]!r}"


@check("observers")
def check_random_states_are_left_alone(subject: Under) -> None:
    """The global random states of Python, numpy and torch are as they were."""
    with _elsewhere() as here, steady_random_states("the observer"):
        _whole_run(subject.make(), here / "run")
