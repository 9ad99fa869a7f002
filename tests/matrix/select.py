"""The pytest plugin of the matrix: it writes down each test's needs, or leaves out of a cell what the cell cannot have.

With `MATRIX_RECORD` (a file of `recorder`) it collects what each test needs into `MATRIX_NEEDS`; tests that are known there
and have passed are not run again. With `MATRIX_CELL` (a JSON document: `tests`, `absent`, `seconds`) it skips the tests that
need something absent, each with its reason, and of the others leaves out the longest, so that they take `seconds` together.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from tests.matrix import recorder
from tests.matrix.places import BUILT_IN, package_of

__all__ = ["imported_by"]

_PACKAGES = {package_of(one): one for one in BUILT_IN}


def imported_by(path: Path) -> set[str]:
    """The built-in distributions that a test module imports, at any depth; those of its `conftest.py` count too."""
    found: set[str] = set()
    for source in (path, path.parent / "conftest.py") if path.name != "conftest.py" else (path,):
        if not source.is_file():
            continue
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {_PACKAGES[top] for one in names if (top := one.partition(".")[0]) in _PACKAGES}
    return found


def _said(item: pytest.Item) -> set[str]:
    """What marks say: `needs("amc-x")`, for what can be seen neither in imports nor in the registry."""
    return {name for mark in item.iter_markers("needs") for name in mark.args}


# --- recording --------------------------------------------------------------------------------------------------------------


class Recording:
    """Runs with everything installed: who used what, and how long each test took; a later run goes on where one was stopped."""

    def __init__(self, record: Path, needs: Path, seconds: float) -> None:
        self._record = record
        self._needs = needs
        self._seconds = seconds
        self._started = time.monotonic()
        self._known: dict[str, dict[str, Any]] = json.loads(needs.read_text(encoding="utf-8")) if needs.is_file() else {}
        self._tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        _forget_scenes()
        with _owner(item.nodeid):
            result = yield
        if time.monotonic() - self._started > self._seconds:
            item.session.shouldstop = "the time is over; the next run goes on here"
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        """What a shared fixture uses is needed by every test that has it."""
        if fixturedef.scope == "function":
            return (yield)
        with _owner(_fixture(fixturedef)):
            return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        collected = {item.nodeid for item in items}
        self._known = {name: one for name, one in self._known.items() if name in collected and not one["failed"]}
        done = [item for item in items if item.nodeid in self._known]
        items[:] = [item for item in items if item.nodeid not in self._known]
        config.hook.pytest_deselected(items=done)
        for item in items:
            known = getattr(item, "_fixtureinfo", None)
            shared = [one for many in (known.name2fixturedefs.values() if known else ()) for one in many]
            self._tests[item.nodeid] = {
                "owners": [item.nodeid, *(_fixture(one) for one in shared if one.scope != "function")],
                "needs": sorted(imported_by(item.path) | _said(item)),
                "seconds": 0.0,
                "failed": None,
                "done": False,
            }

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self._tests[report.nodeid]
        test["seconds"] += report.duration
        if report.failed:
            test["failed"] = _last_line(report)
        test["done"] = report.when == "teardown"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tests[report.nodeid] = {"owners": [], "needs": [], "seconds": 0.0, "failed": _last_line(report), "done": True}

    def pytest_sessionfinish(self) -> None:
        used: dict[str, set[str]] = defaultdict(set)
        for line in self._record.read_text(encoding="utf-8").splitlines() if self._record.exists() else ():
            who, _, what = line.partition("\t")
            used[who].add(what)
        tests = dict(self._known)
        for name, one in self._tests.items():
            if one["done"]:
                noted = {what for owner in one["owners"] for what in used[owner]}
                needs = sorted({*one["needs"], *noted} & set(BUILT_IN))
                tests[name] = {
                    "needs": needs,
                    "asks": bool(noted),
                    "seconds": round(one["seconds"], 3),
                    "failed": one["failed"],
                }
        self._needs.write_text(json.dumps(tests, indent=1), encoding="utf-8")
        left = len(self._tests) - sum(one["done"] for one in self._tests.values())
        self._needs.with_suffix(".left").write_text(str(left), encoding="utf-8")


def _forget_scenes() -> None:
    """The kit captures each of its networks once, and tests keep plans; here every test that has one is seen to make it."""
    for name, module in list(sys.modules.items()):
        kit = name.startswith("amc_plugins.testing")
        for one in vars(module).values() if kit or name.startswith("tests.") else ():
            if hasattr(one, "cache_clear") and (kit or one.__module__ == name):
                one.cache_clear()


def _watch_imports() -> None:
    """What the tests of this process import, or look up, by a distribution's name."""

    def tell(found: Any, name: str, *_: Any) -> None:
        top = name.partition(".")[0].replace("-", "_")
        if top in _PACKAGES:
            recorder.note(_PACKAGES[top])

    importlib.import_module = recorder.using(importlib.import_module, tell)
    metadata.distribution = recorder.using(metadata.distribution, tell)


@contextmanager
def _owner(who: str) -> Iterator[None]:
    before = os.environ.get("MATRIX_OWNER")
    os.environ["MATRIX_OWNER"] = who
    try:
        yield
    finally:
        if before is None:
            del os.environ["MATRIX_OWNER"]
        else:
            os.environ["MATRIX_OWNER"] = before


def _fixture(definition: Any) -> str:
    return f"{definition.baseid}::fixture {definition.argname}"


# --- a cell -----------------------------------------------------------------------------------------------------------------


class Cell:
    """A run in which some distributions are absent."""

    def __init__(self, cell: dict[str, Any], result: Path) -> None:
        self._tests: dict[str, dict[str, Any]] = cell["tests"]
        self._absent = set(cell["absent"])
        self._seconds = float(cell["seconds"])
        self._result = result
        self._counts = Counter[str]()
        self._skipped = Counter[str]()
        self._failed: dict[str, str] = {}

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """What imports something absent, a module or a folder's `conftest.py`, cannot be collected: its tests are skipped."""
        where = collection_path.relative_to(config.rootpath).as_posix()
        if collection_path.is_dir():
            source, inside = collection_path / "conftest.py", f"{where}/"
        else:
            source, inside = collection_path, f"{where}::"
        if not (source.is_file() and (source.name == "conftest.py" or source.match("test_*.py"))):
            return None
        missing = sorted(imported_by(source) & self._absent)
        if not missing:
            return None
        count = sum(name.startswith(inside) for name in self._tests)
        self._skip(missing, count)
        return True

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        could: list[tuple[float, pytest.Item]] = []
        left_out = []
        for item in items:
            known = self._tests.get(item.nodeid, {"needs": [], "asks": True, "seconds": 0.0})
            missing = sorted(({*known["needs"]} | _said(item)) & self._absent)
            if missing:
                self._skip(missing)
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))
            elif known["asks"]:
                could.append((known["seconds"], item))
            else:
                self._counts["indifferent"] += 1
                left_out.append(item)
        could.sort(key=lambda one: one[0])
        for count, together in enumerate(accumulate(seconds for seconds, _ in could)):
            if together > self._seconds:
                self._counts["too long"] = len(could) - count
                left_out += [item for _, item in could[count:]]
                break
        config.hook.pytest_deselected(items=left_out)
        dropped = set(left_out)
        items[:] = [item for item in items if item not in dropped]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed[report.nodeid] = _last_line(report)
        elif report.when == "call" and report.passed:
            self._counts["passed"] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._failed[report.nodeid] = _last_line(report)

    def pytest_sessionfinish(self) -> None:
        found = {**self._counts, "skipped": dict(sorted(self._skipped.items())), "failed": self._failed}
        self._result.write_text(json.dumps(found, indent=1), encoding="utf-8")

    def _skip(self, missing: list[str], count: int = 1) -> None:
        self._skipped[", ".join(missing) if len(missing) < 3 else "several"] += count


def _last_line(report: pytest.TestReport | pytest.CollectReport) -> str:
    lines = [line for line in str(report.longreprtext).splitlines() if line.startswith("E ")]
    return (lines or ["?"])[0].removeprefix("E").strip()[:200]


def pytest_configure(config: pytest.Config) -> None:
    """Register the half that this run asks for."""
    if "MATRIX_CELL" in os.environ:
        cell = json.loads(Path(os.environ["MATRIX_CELL"]).read_text(encoding="utf-8"))
        config.pluginmanager.register(Cell(cell, Path(os.environ["MATRIX_RESULT"])), "matrix cell")
    elif "MATRIX_RECORD" in os.environ:
        record, needs = Path(os.environ["MATRIX_RECORD"]), Path(os.environ["MATRIX_NEEDS"])
        recording = Recording(record, needs, float(os.environ["MATRIX_SECONDS"]))
        config.pluginmanager.register(recording, "matrix recording")
        _watch_imports()
