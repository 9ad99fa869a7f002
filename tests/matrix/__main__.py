"""Runs the cells of the matrix and writes `results.md`; see the package."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.check_imports import ROOT
from tests.matrix.places import BUILT_IN, environment_with

WORK = ROOT / ".make" / "matrix"
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
    parser.add_argument("--longest", type=float, default=1.0, metavar="SECONDS", help="leave out longer tests; inf for none")
    parser.add_argument("--fresh", action="store_true", help="forget earlier cells")
    parser.add_argument("--table", action="store_true", help="write the table from what is there, and run nothing")
    given = parser.parse_args()
    if given.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    for cell in () if given.table else given.only or CELLS:
        if given.only or not _result(cell).is_file():
            _run(cell, given.longest)
    results = {cell: json.loads(_result(cell).read_text(encoding="utf-8")) for cell in CELLS if _result(cell).is_file()}
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


def _result(cell: str) -> Path:
    return WORK / f"{cell.replace(' ', '-')}.json"


def _run(cell: str, longest: float) -> None:
    folder = WORK / "environment"
    shutil.rmtree(folder, ignore_errors=True)
    python = environment_with(folder, CELLS[cell])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AMC_", "MATRIX_"))}
    environment = {**inherited, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    if cell == EVERYTHING:
        found = _everything(python, environment)
    else:
        found = _cell(python, environment, cell, longest)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    found |= {"seconds": round(time.perf_counter() - started), "commit": commit.stdout.strip()}
    _result(cell).write_text(json.dumps(found, indent=1), encoding="utf-8")
    _say(f"{cell}: {_words(found)}")


def _everything(python: Path, environment: dict[str, str]) -> dict[str, Any]:
    """All tests with everything installed; leaves the needs of each for the other cells."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    start = "import os; os.environ.get('MATRIX_RECORD') and __import__('tests.matrix.recorder')\n"
    (site / "matrix_recorder.pth").write_text(start)
    record, needs = WORK / "record.tsv", WORK / "needs.json"
    record.unlink(missing_ok=True)
    _pytest(python, {**environment, "MATRIX_RECORD": str(record), "MATRIX_NEEDS": str(needs)})
    found = json.loads(needs.read_text(encoding="utf-8"))
    return {"passed": found["passed"], "skipped": {}, "failed": found["failed"]}


def _cell(python: Path, environment: dict[str, str], cell: str, longest: float) -> dict[str, Any]:
    needs = WORK / "needs.json"
    if not needs.is_file():
        raise SystemExit(f"the cell `{EVERYTHING}` comes first: it finds out what each test needs")
    absent = [one for one in BUILT_IN if one not in CELLS[cell]]
    tests = json.loads(needs.read_text(encoding="utf-8"))["tests"]
    (WORK / "cell.json").write_text(json.dumps({"tests": tests, "absent": absent, "longest": longest}), encoding="utf-8")
    result = WORK / "result.json"
    result.unlink(missing_ok=True)
    _pytest(python, {**environment, "MATRIX_CELL": str(WORK / "cell.json"), "MATRIX_RESULT": str(result)})
    return {**json.loads(result.read_text(encoding="utf-8")), "longest": longest}


def _pytest(python: Path, environment: dict[str, str]) -> None:
    command = [str(python), "-m", "pytest", "-q", "-rs", "-p", "tests.matrix.select", "-p", "no:cacheprovider"]
    with open(WORK / "log.txt", "a", encoding="utf-8") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)


def _words(found: dict[str, Any]) -> str:
    return f"{found.get('passed', 0)} passed, {len(found['failed'])} failed, {sum(found['skipped'].values())} skipped"


_INTRODUCTION = """# The matrix

`make matrix`: every built-in plugin alone beside the core, and every one absent alone. In a cell the distribution is truly
absent: an environment without its packages and entry points, for subprocesses too. A test is skipped only where it needs
something that is absent: what it imports, and what it used in the run with everything (`recorder.py`). Left out are tests that
ask for no plugin at all, which no absence can touch, and those that take more than the `longest` seconds, so that the matrix
ends within the hour; `--longest inf` runs them. One real `pip uninstall` is in `tests/test_third_party.py`.

| cell | passed | failed | skipped: needs what is absent | asks for no plugin | too long | longest (s) | s | commit |
|---|--:|--:|--:|--:|--:|--:|--:|---|
"""


def _table(results: dict[str, dict[str, Any]]) -> str:
    lines = []
    for cell, one in results.items():
        counts = [one.get("passed", 0), len(one["failed"]), sum(one["skipped"].values())]
        counts += [one.get("indifferent", 0), one.get("too long", 0)]
        longest = f"{one['longest']:g}" if "longest" in one else ""
        cells = [cell, *(f"{count:,}" for count in counts), longest, f"{one['seconds']:,}", one["commit"]]
        lines.append(f"| {' | '.join(cells)} |\n")
    failures = [f"- {cell}: `{name}`: {text}\n" for cell, one in results.items() for name, text in one["failed"].items()]
    return _INTRODUCTION + "".join(lines) + ("\nFailures:\n\n" + "".join(failures) if failures else "")


if __name__ == "__main__":
    sys.exit(main())
