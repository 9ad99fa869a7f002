"""Every conformance check can fail: for each there is a plugin that is wrong in the way that it finds."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from amc_plugins.core.discovery import KINDS
from amc_plugins.core.loading import _SPECS
from amc_plugins.core.registry import registry, reset_registry
from amc_plugins.core.scaffold import write_distribution
from amc_plugins.plugin import AMC_API
from amc_plugins.testing import Check, Outcome, plugin_checks
from amc_plugins.testing.checks import checks_of
from tests.fixtures.wrong.book import WRONG

RIGHT = {
    "compressor": "right-compressor",
    "tuner": "right-tuner",
    "trainer": "right-trainer",
    "exporter": "right-exporter",
    "layer-handler": "right-handler",
    "observer": "right-observer",
}


def one_kind() -> list[tuple[str, str]]:
    found: dict[Any, tuple[str, str]] = {}
    for kind in ("observers", *(one for one in KINDS if one != "observers")):
        for name, function in checks_of(kind).items():
            found.setdefault(function, (kind, name))
    return [one for one in found.values() if one not in SHOWN_BELOW]


SHOWN_BELOW = {("observers", "light_to_import"), ("layer_handlers", "captures_exist")}
"""These look at what an installed distribution has."""


@pytest.fixture(scope="module", autouse=True)
def _right_plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `amc new` writes, importable: the right halves of the wrong plugins."""
    where = tmp_path_factory.mktemp("right")
    before = list(sys.path)
    for what, name in RIGHT.items():
        sys.path.insert(0, str(write_distribution(what, name, where / name) / "src"))
    for module in ("any_kind", *KINDS):
        importlib.import_module(f"tests.fixtures.wrong.{module}")
    yield
    sys.path[:] = before


@pytest.fixture(scope="module")
def registered() -> Iterator[Callable[..., str]]:
    """`registered(kind, target, ...)`: a plugin of this process, in the place of the one before; returns its name."""

    def add(kind: str, target: type[Any], **declared: Any) -> str:
        where = f"{target.__module__}:{target.__qualname__}"
        registry().register(_SPECS[kind](name="wrong", summary="wrong in one way", api=AMC_API, target=where, **declared))
        return "wrong"

    reset_registry()
    yield add
    reset_registry()


def outcome_of(name: str, kind: str, check: str, **more: Any) -> Outcome:
    (found,) = (one for one in plugin_checks(name, kind=kind, **more) if one.name == check)
    return found.run()


@pytest.mark.parametrize(("kind", "check"), one_kind())
def test_a_check_fails(kind: str, check: str, registered: Callable[..., str]) -> None:
    assert (kind, check) in WRONG, f"no plugin in tests/fixtures/wrong shows that `{check}` of {kind} can fail"
    one = WRONG[kind, check]
    outcome = outcome_of(registered(kind, one.target, **one.declared), kind, check)
    assert outcome.result == "failed", f"{one.target.__name__} passes"
    assert one.says in outcome.text, outcome.text


def test_there_is_no_wrong_plugin_without_a_check() -> None:
    assert set(WRONG) == set(one_kind())


def test_a_heavy_light_module_is_found(only_fixtures: Callable[..., None], write_dist: Callable[..., Path]) -> None:
    source = "import numpy\nfrom amc_plugins.plugin import TunerSpec, hookimpl\n"
    source += "@hookimpl\ndef amc_tuners():\n    yield TunerSpec(name='x', summary='x', api=(1, 0), target='fixture_heavy:X')\n"
    only_fixtures(write_dist("heavy", {"tuners": {"x": "fixture_heavy"}}, source))
    outcome = outcome_of("x", "tuners", "light_to_import")
    assert outcome.result == "failed"
    assert "numpy at " in outcome.text and "fixture_heavy.py:1" in outcome.text


def test_a_heavy_hook_is_found(only_fixtures: Callable[..., None], write_dist: Callable[..., Path]) -> None:
    source = "from amc_plugins.plugin import TunerSpec, hookimpl\n@hookimpl\ndef amc_tuners():\n    import torch\n"
    source += "    yield TunerSpec(name='y', summary='y', api=(1, 0), target='fixture_slow:X')\n"
    only_fixtures(write_dist("slow", {"tuners": {"y": "fixture_slow"}}, source))
    outcome = outcome_of("y", "tuners", "light_to_import")
    assert outcome.result == "failed" and "torch at " in outcome.text and "fixture_slow.py:4" in outcome.text


def test_a_misspelt_capture_is_found(only_fixtures: Callable[..., None], write_dist: Callable[..., Path]) -> None:
    source = "from amc_plugins.plugin import barrier, hookimpl\n@hookimpl\ndef amc_layer_handlers():\n"
    source += "    yield barrier('torch.nn.ReLUU', why='of a typing error', name='x')\n"
    only_fixtures(write_dist("misspelt", {"layer_handlers": {"x": "fixture_misspelt"}}, source))
    outcome = outcome_of("x", "layer_handlers", "captures_exist")
    assert outcome.result == "failed" and outcome.text == "there is no `torch.nn.ReLUU`"


def test_a_known_exception_is_expected_and_must_not_be_stale(registered: Callable[..., str]) -> None:
    one = WRONG["tuners", "restored_goes_on"]
    name = registered("tuners", one.target, **one.declared, known_exceptions={"restored_goes_on": "by design"})
    outcome = outcome_of(name, "tuners", "restored_goes_on")
    assert (outcome.result, outcome.text) == ("known", "by design")
    stale = outcome_of(name, "tuners", "seeds_are_respected", known={"seeds_are_respected": "once upon a time"})
    assert stale.result == "failed" and "remove it" in stale.text
    with pytest.raises(pytest.xfail.Exception, match="by design"):
        outcome.check()


def test_a_failure_in_a_test_says_what_the_check_proves(registered: Callable[..., str]) -> None:
    one = WRONG["tuners", "restored_goes_on"]
    name = registered("tuners", one.target, **one.declared)
    check: Check = outcome_of(name, "tuners", "restored_goes_on").check
    with pytest.raises(AssertionError, match=r"tuner `wrong` fails `restored_goes_on`: .*\n.*goes on with exactly") as caught:
        check()
    assert caught.value.__cause__ is not None
    assert check.__name__ == "tuners-wrong-restored_goes_on"


def test_a_field_that_is_newer_than_the_declared_api(registered: Callable[..., str]) -> None:
    one = WRONG["tuners", "restored_goes_on"]
    where = f"{one.target.__module__}:{one.target.__qualname__}"
    spec = _SPECS["tuners"](name="old", summary="old", api=(1, 0), target=where, known_exceptions={"repeatable": "x"})
    registry().register(spec)
    outcome = outcome_of("old", "tuners", "declaration")
    assert outcome.result == "failed" and "`known_exceptions` came with api (1, 1)" in outcome.text
