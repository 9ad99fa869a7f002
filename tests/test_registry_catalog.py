"""The catalog, which says what to install, holds what this repository's distributions really provide."""

from __future__ import annotations

import tomllib
from importlib.metadata import distributions

import pytest

from amc_plugins.core import catalog
from amc_plugins.core.discovery import KINDS
from amc_plugins.core.registry import Registry
from amc_plugins.core.specs import LayerHandlerSpec
from scripts.check_imports import plugin_folders
from tests.matrix.places import BUILT_IN


def test_the_catalog_equals_the_entry_points_of_the_repository() -> None:
    declared: dict[str, dict[str, str]] = {}
    for folder in plugin_folders():
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for group, entries in project.get("entry-points", {}).items():
            kind = group.removeprefix("amc_plugins.")
            declared.setdefault(project["name"], {})[kind] = " ".join(sorted(entries))
    assert declared == catalog.DISTRIBUTIONS


def test_the_catalog_has_every_kind() -> None:
    assert list(catalog.BUILT_IN) == list(KINDS)


@pytest.fixture(scope="module")
def installed() -> Registry:
    registry = Registry()
    registry.load_all(targets=True)
    return registry


def test_no_installed_built_in_plugin_has_a_problem(installed: Registry) -> None:
    present = {one.name for one in distributions()} & set(catalog.DISTRIBUTIONS)
    if not present:
        pytest.skip("the core is installed alone")
    records = [record for record in installed.records() if record.distribution in catalog.DISTRIBUTIONS]
    assert {record.distribution for record in records} == present, "what is installed is found"
    problems = {str(record): record.problem for record in records}
    assert {who: problem for who, problem in problems.items() if problem} == {}


@pytest.mark.needs(*BUILT_IN)
def test_the_ops_of_the_catalog_are_those_of_the_declarations(installed: Registry) -> None:
    declared = {}
    for spec in installed.specs("layer_handlers"):
        owner = installed.owner(spec)
        assert isinstance(spec, LayerHandlerSpec) and owner is not None
        if owner.distribution in catalog.DISTRIBUTIONS:
            declared[spec.op] = spec.name
    assert declared == catalog.OPS
    assert {catalog.distribution_of_op(op) for op in declared} <= set(catalog.DISTRIBUTIONS)
    assert catalog.distribution_of_op("com.acme.swish") is None
