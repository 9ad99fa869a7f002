"""Every plugin folder is a complete distribution, and what its metadata says is what its code declares."""

from __future__ import annotations

import importlib
import itertools
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from amc_plugins.core.discovery import KINDS
from amc_plugins.plugin import AMC_API, LayerHandlerSpec, PluginSpec
from scripts.check_imports import ROOT, plugin_folders

FOLDERS = plugin_folders()
per_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


@cache
def _project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def _distribution_name(folder: Path) -> str:
    family = "amc-op-" if folder.parent.name == "ops" else "amc-"
    return family + folder.name.replace("_", "-")


def _package(folder: Path) -> str:
    return _distribution_name(folder).replace("-", "_")


def _entries(folder: Path) -> dict[str, dict[str, str]]:
    """Entry names and their modules, by kind."""
    groups = _project(folder)["project"].get("entry-points", {})
    return {group.removeprefix("amc_plugins."): dict(entries) for group, entries in groups.items()}


def _declared(folder: Path) -> dict[str, list[PluginSpec]]:
    """What the modules of the entry points declare, by kind, called as the registry does."""
    modules = {module for entries in _entries(folder).values() for module in entries.values()}
    found: dict[str, list[PluginSpec]] = {kind: [] for kind in KINDS}
    for module in sorted(modules):
        for kind in KINDS:
            hook = getattr(importlib.import_module(module), f"amc_{kind}", None)
            found[kind] += list(hook()) if hook is not None else []
    return found


@per_folder
def test_the_folder_is_complete(folder: Path) -> None:
    package = folder / "src" / _package(folder)
    for path in (folder / "README.md", package / "__init__.py", package / "py.typed", package / "plugin.py"):
        assert path.is_file(), f"{path.relative_to(ROOT)} is missing"
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert _distribution_name(folder) in readme, "the README does not name the distribution"
    assert 5 <= len(readme.splitlines()) <= 60, "the README is one screen"
    tests = [path.stem for path in folder.glob("tests/**/test_*.py")]
    assert tests, "no tests"
    assert all(folder.name.removesuffix("_export") in name for name in tests), f"test files carry the plugin's name: {tests}"


@per_folder
def test_the_metadata_fits_the_folder(folder: Path) -> None:
    project = _project(folder)["project"]
    assert project["name"] == _distribution_name(folder)
    assert project["readme"] == "README.md"
    assert project["license"] == "MIT"
    assert project["requires-python"] == ">=3.11"
    assert "amc-plugins>=0.1,<0.2" in project["dependencies"]
    assert _project(folder)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"src/{_package(folder)}"]
    entries = _entries(folder)
    assert entries, "a plugin has entry points"
    assert set(entries) <= set(KINDS), "unknown entry-point group"
    modules = {module for names in entries.values() for module in names.values()}
    assert all(module.partition(".")[0] == _package(folder) for module in modules), f"foreign modules: {modules}"


@per_folder
def test_what_is_installed_is_what_the_folder_says(folder: Path) -> None:
    installed = distribution(_distribution_name(folder)).entry_points
    said = {(f"amc_plugins.{kind}", name, module) for kind, names in _entries(folder).items() for name, module in names.items()}
    assert {(entry.group, entry.name, entry.value) for entry in installed} == said, "run `make install`"


@per_folder
def test_declarations_have_the_names_of_the_entry_points(folder: Path) -> None:
    entries = _entries(folder)
    for kind, specs in _declared(folder).items():
        assert sorted(spec.name for spec in specs) == sorted(entries.get(kind, {})), kind
        for spec in specs:
            assert spec.kind == kind
            assert (1, 0) <= spec.api <= AMC_API


def test_no_two_handlers_claim_the_same() -> None:
    handlers = [spec for folder in FOLDERS for spec in _declared(folder)["layer_handlers"]]
    claims = Counter[str]()
    for spec in handlers:
        assert isinstance(spec, LayerHandlerSpec)
        claims.update([f"name {spec.name}", f"op {spec.op}", *spec.captures])
    assert [claim for claim, count in claims.items() if count > 1] == []


def test_no_two_test_files_have_one_name() -> None:
    names = Counter(path.name for folder in (ROOT, *FOLDERS) for path in folder.glob("tests/**/test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_every_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==\S+$", pins, flags=re.MULTILINE))
    for folder in (ROOT, *FOLDERS):
        project = _project(folder)["project"]
        wanted = [*project["dependencies"], *itertools.chain(*project.get("optional-dependencies", {}).values())]
        names = {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", item, maxsplit=1)[0]).lower() for item in wanted}
        loose = {name for name in names - pinned if not name.startswith("amc-")}
        assert not loose, f"{project['name']}: no pin in constraints.txt for {sorted(loose)}; `make constraints` writes them"


@pytest.mark.slow
@pytest.mark.parametrize("folder", [ROOT, *FOLDERS], ids=lambda folder: folder.name)
def test_the_wheel_has_the_package_and_its_type_marker(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    package = "amc_plugins" if folder == ROOT else _package(folder)
    source = folder if folder == ROOT else folder / "src"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {str(path.relative_to(source)) for path in (source / package).rglob("*.py")}
    assert expected <= names
    assert f"{package}/py.typed" in names
    assert {name.partition("/")[0] for name in names if not name.partition("/")[0].endswith(".dist-info")} == {package}
