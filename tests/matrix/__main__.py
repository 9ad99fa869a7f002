"""Runs the cells of the matrix and writes `results.md`; see the package."""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.check_imports import ROOT
from tests.matrix.places import BUILT_IN, environment_with

WORK = ROOT / ".make" / "matrix"
NEEDS = WORK / "needs.json"
TABLE = Path(__file__).parent / "results.md"
EVERYTHING, CORE = "everything", "the core alone"

CELLS: dict[str, list[str]] = {
    EVERYTHING: list(BUILT_IN),
    CORE: [],
    **{f"only {one}": [one] for one in BUILT_IN},
    **{f"without {one}": [other for other in BUILT_IN if other != one] for one in BUILT_IN},
}
"""Cell -> the plugin distributions that are there."""


def main() -> int:
    """Run what is not done yet, in the order of `CELLS`; 1 if any cell has a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--only", action="append", choices=CELLS, metavar="CELL", help="run this cell, again if it is done")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th cell from the I-th on, for several processes")
    parser.add_argument("--seconds", type=float, default=90.0, help="of tests in a cell, the shortest first; inf for all")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after so many; the next run goes on")
    parser.add_argument("--fresh", action="store_true", help="forget earlier cells")
    parser.add_argument("--table", action="store_true", help="write the table from what is there, and run nothing")
    given = parser.parse_args()
    if given.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, given.part.split("/"))
    end = time.monotonic() + 60 * given.minutes
    cells = given.only or [EVERYTHING] * (parts == 1) + list(CELLS)[part::parts]
    for cell in () if given.table else cells:
        if time.monotonic() < end and (given.only or _wanted(cell)):
            _run(cell, given.seconds, end - time.monotonic())
    results = {cell: found for cell in CELLS if (found := _result(cell)) is not None}
    TABLE.write_text(_table(results), encoding="utf-8")
    failed = {cell: one["failed"] for cell, one in results.items() if one["failed"]}
    for cell, tests in failed.items():
        for name, text in tests.items():
            _say(f"{cell}: {name}: {text}")
    _say(f"{len(results)} of {len(CELLS)} cells are done, {len(failed)} with failures; the table is {TABLE}")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _file(cell: str) -> Path:
    return WORK / f"{cell.replace(' ', '-')}.json"


def _result(cell: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(_file(cell).read_text(encoding="utf-8")) if _file(cell).is_file() else None
    return found


def _wanted(cell: str) -> bool:
    """Not done yet, or with failures; there may always be tests that were not run with everything yet."""
    found = _result(cell)
    return cell == EVERYTHING or found is None or bool(found["failed"])


@contextmanager
def _alone_with(cell: str) -> Iterator[bool]:
    """Whether no other process runs the cell: the two would take each other's environment away."""
    with open(_file(cell).with_suffix(".lock"), "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _run(cell: str, seconds: float, left: float) -> None:
    with _alone_with(cell) as alone:
        if alone:
            _run_alone(cell, seconds, left)
        else:
            _say(f"{cell}: another process runs it")


def _run_alone(cell: str, seconds: float, left: float) -> None:
    folder = WORK / cell.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    python = environment_with(folder / "environment", CELLS[cell])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AMC_", "MATRIX_"))}
    environment = {**inherited, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    found = _everything(python, environment, left) if cell == EVERYTHING else _cell(python, environment, cell, seconds)
    if found is not None:
        asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
        found = {"seconds": round(time.perf_counter() - started), "commit": asked.stdout.strip(), **found}
        _file(cell).write_text(json.dumps(found, indent=1), encoding="utf-8")
        _say(f"{cell}: {_words(found)}")
    shutil.rmtree(folder / "environment")


def _everything(python: Path, environment: dict[str, str], left: float) -> dict[str, Any] | None:
    """All tests with everything installed, but for those that passed here before; leaves the needs of each for the cells.

    None if the time was over before the last one.
    """
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    start = "import os; os.environ.get('MATRIX_RECORD') and __import__('tests.matrix.recorder')\n"
    (site / "matrix_recorder.pth").write_text(start)
    given = {"MATRIX_RECORD": str(WORK / "record.tsv"), "MATRIX_NEEDS": str(NEEDS), "MATRIX_SECONDS": str(left)}
    _pytest(python, {**environment, **given}, EVERYTHING)
    tests = json.loads(NEEDS.read_text(encoding="utf-8"))
    if unknown := int(NEEDS.with_suffix(".left").read_text(encoding="utf-8")):
        _say(f"{EVERYTHING}: {len(tests)} tests have run, {unknown} have not")
        return None
    failed = {name: one["failed"] for name, one in tests.items() if one["failed"]}
    took = round(sum(one["seconds"] for one in tests.values()))  # of all of them, whatever this run was left to do
    return {"passed": len(tests) - len(failed), "skipped": {}, "failed": failed, "seconds": took}


def _cell(python: Path, environment: dict[str, str], cell: str, seconds: float) -> dict[str, Any]:
    if _result(EVERYTHING) is None:
        raise SystemExit(f"the cell `{EVERYTHING}` comes first: it finds out what each test needs")
    folder = WORK / cell.replace(" ", "-")
    absent = [one for one in BUILT_IN if one not in CELLS[cell]]
    tests = json.loads(NEEDS.read_text(encoding="utf-8"))
    (folder / "cell.json").write_text(json.dumps({"tests": tests, "absent": absent, "seconds": seconds}), encoding="utf-8")
    given = {"MATRIX_CELL": str(folder / "cell.json"), "MATRIX_RESULT": str(folder / "result.json")}
    _pytest(python, {**environment, **given}, cell)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def _pytest(python: Path, environment: dict[str, str], cell: str) -> None:
    command = [str(python), "-m", "pytest", "-q", "-rs", "-p", "tests.matrix.select", "-p", "no:cacheprovider"]
    with open(WORK / cell.replace(" ", "-") / "log.txt", "w", encoding="utf-8") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)


def _words(found: dict[str, Any]) -> str:
    return f"{found.get('passed', 0)} passed, {len(found['failed'])} failed, {sum(found['skipped'].values())} skipped"


_INTRODUCTION = """# The matrix

`make matrix` runs the tests with everything installed, in the core alone, with each built-in distribution alone beside the
core, and without each. What is absent is truly absent: neither its packages nor its entry points are in the environment, for
subprocesses too. (One real `pip uninstall` is in `tests/test_third_party.py`.)

- *passed*, *failed*: the tests that ran in the cell; the first row counts the few that skip themselves, for want of CUDA or a
  browser, as passed.
- *needs what is absent*: skipped, because of what they import, what they say (`@pytest.mark.needs`), or what they were seen to
  use with everything installed (`recorder.py`); for no other reason.
- *asks for no plugin*: left out, because with everything installed they asked for none: no absence can touch them.
- *too long*: left out for time alone, the longest of what remains. Those that run may take `--seconds` together (90 unless it
  is given), counted as they took with everything installed; `--seconds inf` leaves none out.
- *s*: the cell from start to end; of the first row the sum of its tests.

| cell | passed | failed | needs what is absent | asks for no plugin | too long | s | commit |
|---|--:|--:|--:|--:|--:|--:|---|
"""


def _table(results: dict[str, dict[str, Any]]) -> str:
    lines = []
    for cell, one in results.items():
        counts = [one.get("passed", 0), len(one["failed"]), sum(one["skipped"].values())]
        counts += [one.get("indifferent", 0), one.get("too long", 0), one["seconds"]]
        lines.append(f"| {' | '.join([cell, *(f'{count:,}' for count in counts), one['commit']])} |\n")
    failures = [f"- {cell}: `{name}`: {text}\n" for cell, one in results.items() for name, text in one["failed"].items()]
    left = [cell for cell in CELLS if cell not in results]
    more = f"\nNot run yet: {len(left)} of {len(CELLS)} cells, {', '.join(left)}.\n" if left else ""
    return _INTRODUCTION + "".join(lines) + more + ("\nFailures:\n\n" + "".join(failures) if failures else "")


if __name__ == "__main__":
    sys.exit(main())
