"""`kill -9` at random moments: nothing that was scored is lost, and the search ends as if it had not been interrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.digits_search import searched

ROOT = Path(__file__).resolve().parent.parent
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Start:
    """`start(folder, tuner, evaluations, seed, seconds, workers)`: the search as a process, in a session of its own."""

    def begin(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.digits_search", *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    return begin


def _read(path: Path) -> dict[int, tuple[dict[str, int], float]]:
    if not path.exists():
        return {}
    with sqlite3.connect(path) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'evaluations'").fetchone():
            return {}  # killed between the file and its tables
        rows = database.execute("SELECT position, candidate, objectives FROM evaluations ORDER BY position").fetchall()
    database.close()
    return {place: (json.loads(candidate), json.loads(objectives)["score"]) for place, candidate, objectives in rows}


def _kill(process: subprocess.Popen[str], after: float) -> list[str]:
    """Wait until the search has begun, kill it `after` seconds later with all its processes; the lines that it printed."""
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after)
    os.killpg(process.pid, signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    return [first.strip(), *rest.splitlines()]


def _killed_search(start: Start, folder: Path, tuner: str, kills: int, workers: int = 1) -> None:
    evaluations, seconds, seed = 14, 0.1, 3
    whole = searched(None, tuner, evaluations, seed, 0.0)
    chance = random.Random(f"{tuner} {kills}")
    path = folder / "evaluations.sqlite"
    arguments = (folder, tuner, evaluations, seed, seconds, workers)
    longest = max(0.4, 1.5 * evaluations * seconds / kills)
    known: dict[int, tuple[dict[str, int], float]] = {}
    for _ in range(kills):
        lines = _kill(start(*arguments), chance.uniform(0.0, longest))
        if any(line.startswith("best") for line in lines):
            break
        after = _read(path)
        assert {place: after[place] for place in known} == known, "a score was lost"
        announced = [line for line in lines[1:] if line.startswith("{")]
        # every announced score is stored; at most one per worker was stored and not announced yet
        assert len(after) - len(known) - len(announced) in range(workers + 1)
        known = after
    process = start(*arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    lines = output.splitlines()
    scored = [line for line in lines if line.startswith("{")]
    assert len(scored) <= evaluations - len(known), "something was scored twice"
    trajectory = [(dict(one.candidate), one.score) for one in whole.evaluations]
    assert list(_read(path).values()) == trajectory
    assert lines[-1] == f"best {dict(whole.best.candidate)} {whole.best.score}"


def test_two_kills(start: Start, tmp_path: Path) -> None:
    _killed_search(start, tmp_path, "ga", 2)


@pytest.mark.slow
@pytest.mark.parametrize(("tuner", "workers"), [("ga", 1), ("ddpg", 1), ("annealing", 1), ("random", 2)])
def test_twenty_kills(start: Start, tmp_path: Path, tuner: str, workers: int) -> None:
    _killed_search(start, tmp_path, tuner, 20, workers)
