"""`amc plugins check`: the table, the JSON, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from amc_plugins.core.discovery import discover
from amc_plugins.testing import check_names
from tests.work_files import Command


def test_a_good_plugin(amc_: Command) -> None:
    code, out, _ = amc_("plugins", "check", "uniform")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["CHECK", "RESULT"]
    assert [line.split()[0] for line in lines[1:-2]] == check_names("tuners")
    assert lines[-1] == f"{len(check_names('tuners'))} passed"


def test_a_known_exception_and_json(amc_: Command, only_fixtures: Callable[..., None], write_dist: Callable[..., Path]) -> None:
    source = (
        "from amc_plugins.plugin import ObserverSpec, hookimpl\nclass Loud:\n    def __init__(self, settings):\n        pass\n"
    )
    source += "    @hookimpl\n    def amc_run_started(self):\n        print('hello')\n"
    source += "@hookimpl\ndef amc_observers():\n    yield ObserverSpec(name='loud', summary='says hello', api=(1, 1),\n"
    source += "        target='fixture_loud:Loud', known_exceptions={'standard_output_is_left_alone': 'it is made to speak'})\n"
    only_fixtures(write_dist("loud", {"observers": {"loud": "fixture_loud"}}, source))
    code, out, _ = amc_("plugins", "check", "loud", "--json")
    assert code == 0
    content = json.loads(out)
    assert content["ok"] is True
    results = {one["check"]: (one["result"], one["text"]) for one in content["checks"]}
    assert results.pop("standard_output_is_left_alone") == ("known", "it is made to speak")
    assert set(results.values()) == {("passed", None)}


def test_a_failure_is_exit_code_one(amc_: Command) -> None:
    code, out, _ = amc_("plugins", "check", "supervised", "--only", "it_learns", "--set", "learning_rate=1e-30")
    assert code == 1
    assert "failed" in out and "the cross-entropy of the training digits goes from" in out


@pytest.mark.needs("amc-baselines", "amc-pruning")  # the nearest names
def test_what_is_not_there(amc_: Command) -> None:
    code, _, error = amc_("plugins", "check", "prunning")
    assert code == 2 and "did you mean `pruning`" in error
    code, _, error = amc_("plugins", "check", "uniform", "--only", "seeds_respected")
    assert code == 2 and "did you mean `seeds_are_respected`" in error


def test_a_plugin_that_does_not_load(amc_: Command, only_fixtures: Callable[..., None]) -> None:
    only_fixtures("import_error")
    name = discover()[0].name
    code, out, _ = amc_("plugins", "check", name, "--json")
    assert code == 1
    first, _, *others = json.loads(out)["checks"]
    assert first["check"] == "declaration" and "importing `fixture_import_error" in first["text"]
    assert others and {(one["result"], one["text"]) for one in others} == {
        ("failed", "it does not load, as `declaration` explains")
    }


def test_several_kinds(amc_: Command) -> None:
    code, out, _ = amc_("plugins", "check", "uniform", "--kind", "tuner", "--only", "declaration")
    assert code == 0 and "1 passed" in out
