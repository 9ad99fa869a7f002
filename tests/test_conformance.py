"""Every installed plugin passes the conformance checks of its kind."""

from __future__ import annotations

import inspect
import re
from importlib import metadata

import pytest

from amc_plugins.core.discovery import KINDS, PluginRecord, discover
from amc_plugins.plugin import SettingsError
from amc_plugins.testing import Check, check_names, plugin_checks
from amc_plugins.testing.checks import checks_of
from amc_plugins.testing.declarations import imported_by
from scripts import write_checks

INSTALLED = [record for record in discover() if record.status == "available"]


@pytest.fixture(scope="module", autouse=True)
def _probe_all_modules_at_once() -> None:
    imported_by(*dict.fromkeys(record.module for record in INSTALLED))


@pytest.mark.parametrize(
    "record", [record for record in INSTALLED if record.kind == "layer_handlers"], ids=lambda one: one.name
)
def test_layer_handler(record: object) -> None:
    """In one test each: there are many, and each is quick."""
    outcomes = [check.run() for check in plugin_checks(record.name, kind=record.kind)]  # type: ignore[attr-defined]
    failed = [f"{one.check.name}: {one.text}" for one in outcomes if one.result == "failed"]
    assert not failed, "\n".join(failed)
    assert sum(one.result == "passed" for one in outcomes) >= 9


KNOWN = {"mixed": {"budgets_are_met": "one ratio for all layers does not reach the end of the range"}}


def _distributions(record: PluginRecord) -> set[str]:
    """The distribution of a plugin, and the plugin distributions that it depends on."""
    required = {re.split(r"[^\w.-]", one)[0] for one in metadata.requires(record.distribution) or ()}
    return {record.distribution, *(one.distribution for one in INSTALLED if one.distribution in required)}


OTHERS = [
    # all checks of a plugin share what the first one makes, so that what makes it is needed by every one
    pytest.param(check, marks=pytest.mark.needs(*sorted(_distributions(record))), id=check.__name__)
    for record in INSTALLED
    if record.kind != "layer_handlers"
    for check in plugin_checks(record.name, kind=record.kind, known=KNOWN.get(record.name))
]


@pytest.mark.parametrize("check", OTHERS)
def test_plugin(check: Check) -> None:
    check()


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_says_what_it_proves(kind: str) -> None:
    assert len(check_names(kind)) >= 7
    for name, function in checks_of(kind).items():
        assert len((inspect.getdoc(function) or "").split()) >= 8, name


def test_the_page_of_the_checks_is_up_to_date() -> None:
    assert write_checks.PAGE.read_text(encoding="utf-8") == write_checks.page(), "run scripts/write_checks.py"


def test_known_exceptions_must_name_checks() -> None:
    with pytest.raises(SettingsError, match="did you mean `repeatable`"):
        plugin_checks("pruning", known={"repeatble": "for a reason"}, kind="compressors")
