"""The pytest plugin of the matrix: it writes down each test's needs, or leaves out of a cell what the cell cannot have.

With `MATRIX_RECORD` (a file of `recorder`) it collects what each test needs into `MATRIX_NEEDS`. With `MATRIX_CELL` (a JSON
document: `needs`, `absent`, `longest`) it skips the tests that need something absent, each with its reason.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
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
    for source in (path, path.parent / "conftest.py"):
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
    """One run with everything installed: who used what, and how long each test took."""

    def __init__(self, record: Path, needs: Path) -> None:
        self._record = record
        self._needs = needs
        self._tests: dict[str, dict[str, Any]] = {}
        self._passed = 0
        self._failed: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        with _owner(item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        """What a shared fixture uses is needed by every test that has it."""
        if fixturedef.scope == "function":
            return (yield)
        with _owner(_fixture(fixturedef)):
            return (yield)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            known = getattr(item, "_fixtureinfo", None)
            shared = [one for many in (known.name2fixturedefs.values() if known else ()) for one in many]
            self._tests[item.nodeid] = {
                "owners": [item.nodeid, *(_fixture(one) for one in shared if one.scope != "function")],
                "needs": sorted(imported_by(item.path) | _said(item)),
                "seconds": 0.0,
            }

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid in self._tests:
            self._tests[report.nodeid]["seconds"] += report.duration
        if report.failed:
            self._failed[report.nodeid] = _last_line(report)
        self._passed += report.when == "call" and report.passed

    def pytest_sessionfinish(self) -> None:
        used: dict[str, set[str]] = defaultdict(set)
        for line in self._record.read_text(encoding="utf-8").splitlines() if self._record.exists() else ():
            who, _, what = line.partition("\t")
            used[who].add(what)
        tests = {}
        for name, one in self._tests.items():
            noted = {what for owner in one["owners"] for what in used[owner]}
            needs = sorted({*one["needs"], *noted} & set(BUILT_IN))
            tests[name] = {"needs": needs, "asks": bool(noted), "seconds": round(one["seconds"], 3)}
        found = {"tests": tests, "passed": self._passed, "failed": self._failed}
        self._needs.write_text(json.dumps(found, indent=1), encoding="utf-8")


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
        self._longest = float(cell["longest"])
        self._result = result
        self._counts = Counter[str]()
        self._skipped = Counter[str]()
        self._failed: dict[str, str] = {}

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """A module that imports what is absent cannot be collected: its tests are skipped by what was recorded."""
        if not (collection_path.name.startswith("test_") and collection_path.suffix == ".py"):
            return None
        missing = sorted(imported_by(collection_path) & self._absent)
        if not missing:
            return None
        where = collection_path.relative_to(config.rootpath).as_posix()
        count = sum(name.startswith(f"{where}::") for name in self._tests)
        self._skip(missing, count)
        return True

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        left_out: dict[str, list[pytest.Item]] = {"indifferent": [], "too long": []}
        chosen = []
        for item in items:
            known = self._tests.get(item.nodeid, {"needs": [], "asks": True, "seconds": 0.0})
            missing = sorted(({*known["needs"]} | _said(item)) & self._absent)
            if missing:
                self._skip(missing)
                item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))
            elif not known["asks"]:
                left_out["indifferent"].append(item)
                continue
            elif known["seconds"] > self._longest:
                left_out["too long"].append(item)
                continue
            chosen.append(item)
        for why, some in left_out.items():
            self._counts[why] += len(some)
            config.hook.pytest_deselected(items=some)
        items[:] = chosen

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
        recording = Recording(Path(os.environ["MATRIX_RECORD"]), Path(os.environ["MATRIX_NEEDS"]))
        config.pluginmanager.register(recording, "matrix recording")
        _watch_imports()
