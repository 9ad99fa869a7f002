"""Ctrl-C, a real SIGINT to a real process: exit code 130, a hint how to go on, and the same command goes on there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.work_files import recipe

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

WAITING = '''
"""The user's data and scores; once, where a file `wait` says so, they take very long."""
import time
from pathlib import Path
import data
import score

def _wait(here):
    if Path("wait").exists() and Path("wait").read_text() == here:
        Path("wait").unlink()
        Path("ready").write_text("")
        time.sleep(600)

class Waiting:
    def __init__(self, loader, passes):
        self.loader, self.passes, self.begun = loader, passes, 0

    def __iter__(self):
        self.begun += 1
        if self.begun > self.passes:
            _wait("train")
        yield from self.loader

    def __len__(self):
        return len(self.loader)

def inputs():
    _wait("inputs")
    return data.inputs()

def train():
    return Waiting(data.train(), 1)

def accuracy(network):
    known = Path("calls")
    known.write_text(known.read_text() + "x" if known.exists() else "x")
    if len(known.read_text()) == 3:
        _wait("score")
    return score.accuracy(network)
'''


PROGRAM = """
import signal
from amc_plugins.cli.app import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs are started with it ignored
main()
"""


def amc(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, in which SIGINT is what it is in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def interrupted(folder: Path, where: str, *arguments: str) -> str:
    """Start the command, send SIGINT while it waits at `where`; what it said on stderr."""
    (folder / "wait").write_text(where)
    process = amc(folder, *arguments)
    until = time.monotonic() + 240
    while not (folder / "ready").exists():
        assert process.poll() is None and time.monotonic() < until, process.communicate(timeout=10)
        time.sleep(0.05)
    (folder / "ready").unlink()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "error: interrupted\n" in err and "Traceback" not in err
    return err


@pytest.fixture
def folder(here: Path) -> Path:
    (here / "waiting.py").write_text(WAITING)
    return here


def test_a_recipe(folder: Path) -> None:
    path = recipe(folder)
    changes = ("--set", "data.train=waiting.py:train", "--set", "report=false", "--set", "train.settings.epochs=3")
    err = interrupted(folder, "train", "run", str(path), *changes)
    assert f"hint: finished steps are kept in {folder / 'run'}" in err
    log = (folder / "run" / "log.txt").read_text()
    assert "epoch 1: " in log and "epoch 2: " not in log and "WARNING amc_plugins.run: interrupted" in log
    process = amc(folder, "run", str(path), *changes, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "going on in" in err and "capture, round1-compress done before" in err
    assert [step["name"] for step in json.loads(out)["steps"]] == ["capture", "round1-compress", "round1-train", "export"]
    log = (folder / "run" / "log.txt").read_text()
    assert log.count("epoch 1: ") == 1 and log.count("epoch 3: ") == 1, "an epoch was trained twice"


def test_a_training(folder: Path) -> None:
    line = ("train", "net.pkl", "supervised", "--train", "waiting.py:train", "--validation", "data.py:validation")
    line += ("--folder", "run", "--set", "epochs=3", "-o", "trained.pkl")
    err = interrupted(folder, "train", *line)
    assert "hint: the same command goes on after the last finished epoch, from the checkpoints in run" in err
    assert not (folder / "trained.pkl").exists()
    process = amc(folder, *line, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out)["epochs"] == 3 and (folder / "run" / "log.txt").read_text().count("epoch 1: ") == 1


def test_a_search(folder: Path) -> None:
    line = ("tune", "net.pkl", "lowrank", "--tuner", "random", "--total", "0.4", "--calibration", "data.py:inputs")
    line += ("--evaluate", "waiting.py:accuracy", "--evaluations", "4", "--confirm", "0", "--folder", "run", "-o", "best.pkl")
    err = interrupted(folder, "score", *line)
    assert "hint: the scores so far are in run; the same command goes on with the next one" in err
    process = amc(folder, *line, "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(json.loads(out)["evaluations"]) == 4 and (folder / "best.pkl").is_file()
    assert len((folder / "calls").read_text()) <= 4 + 2 + 1, "a stored score was computed again"


def test_a_compression(folder: Path) -> None:
    line = ("compress", "net.pkl", "lowrank", "--total", "0.4", "--calibration", "waiting.py:inputs", "-o", "small.pkl")
    interrupted(folder, "inputs", *line)
    assert not (folder / "small.pkl").exists()
