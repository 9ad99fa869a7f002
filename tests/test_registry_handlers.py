"""Layer handlers by op: one owner for every op and every captured name, and what is said when there is none."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import amc_plugins as amc
from amc_plugins.core import catalog
from amc_plugins.core.errors import PluginError, UnsupportedOpError
from amc_plugins.core.registry import import_target, registry
from amc_plugins.core.specs import AMC_API, LayerHandlerSpec

Put = Callable[..., None]
Write = Callable[..., Path]


def handler_dist(write_dist: Write, folder: str, *, name: str, op: str, captures: str = "()", replaces: str = "()") -> Path:
    source = (
        "from amc_plugins.plugin import *\n"
        "class Handler:\n    def __init__(self, spec):\n        self.spec = spec\n"
        "class Failing:\n    def __init__(self, spec):\n        raise OSError('no licence')\n"
        "@hookimpl\ndef amc_layer_handlers():\n"
        f"    yield LayerHandlerSpec(name={name!r}, op={op!r}, summary='x', api=(1, 0), captures={captures},\n"
        f"        replaces={replaces}, target='fixture_{folder}:Handler')\n"
    )
    return write_dist(folder, {"layer_handlers": {name: f"fixture_{folder}"}}, source)


def test_a_handler_is_found_by_its_op_and_made_once(only_fixtures: Put) -> None:
    only_fixtures("good")
    handler = registry().handler_for_op("com.fixture.swish")
    assert type(handler).__name__ == "SwishHandler"
    assert (handler.spec.name, handler.spec.op_version) == ("swish", 3)
    assert registry().handler_for_op("com.fixture.swish") is handler
    assert registry().handler(handler.spec) is handler


def test_the_one_line_handler_needs_no_code_of_its_own(only_fixtures: Put) -> None:
    from amc_plugins.core.user_ops import Transparent

    only_fixtures("good")
    handler = registry().handler_for_op("fixture_good.squash")
    assert type(handler) is Transparent
    assert handler.spec.captures == ("fixture_good.layers.Squash",)


def test_listing_the_handlers_makes_them(only_fixtures: Put) -> None:
    only_fixtures("good")
    assert [(spec.name, spec.op) for spec in registry().handlers()] == [
        ("squash", "fixture_good.squash"),
        ("swish", "com.fixture.swish"),
    ]
    assert "fixture_good._impl" in sys.modules


@pytest.mark.parametrize(
    ("target", "problem"), [("Failing", "Failing() raised OSError: no licence"), ("Handlr", "`fixture_bad` has no `Handlr`")]
)
def test_a_handler_whose_code_fails_hides_no_other(
    only_fixtures: Put, write_dist: Write, caplog: pytest.LogCaptureFixture, target: str, problem: str
) -> None:
    folder = handler_dist(write_dist, "bad", name="bad", op="com.bad.bad")
    module = folder / "fixture_bad.py"
    module.write_text(module.read_text().replace("fixture_bad:Handler", f"fixture_bad:{target}"))
    only_fixtures(folder, "good")
    with caplog.at_level(logging.WARNING, "amc_plugins"):
        assert [spec.name for spec in registry().handlers()] == ["squash", "swish"]
        assert [spec.name for spec in registry().handlers()] == ["squash", "swish"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"layer handler `bad` (amc-fixture-bad 1.0) is skipped, it is broken: {problem}")
    with pytest.raises(UnsupportedOpError) as caught:
        registry().handler_for_op("com.bad.bad")
    start = f"nothing handles the op `com.bad.bad`: layer handler `bad` (amc-fixture-bad 1.0) is broken: {problem}"
    assert str(caught.value).startswith(start)
    assert isinstance(caught.value.__cause__, BaseException)


def test_two_handlers_for_one_op_are_a_conflict_that_names_both(only_fixtures: Put) -> None:
    only_fixtures("good", "same_op")
    with pytest.raises(UnsupportedOpError) as caught:
        registry().handler_for_op("com.fixture.swish")
    expected = "the op `com.fixture.swish` is claimed by the layer handlers "
    assert f"{expected}`swish` of amc-fixture-good 1.0 and `swish2` of amc-fixture-same-op 1.0" in str(caught.value)
    assert caught.value.hint is not None and "--disable amc-fixture-same-op" in caught.value.hint
    assert {record.name: record.status for record in registry().records("layer_handlers")} == {
        "squash": "loaded",
        "swish": "conflict",
        "swish2": "conflict",
    }
    assert [spec.name for spec in registry().handlers()] == ["squash"]


def test_disabling_one_of_them_ends_it(only_fixtures: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    only_fixtures("good", "same_op")
    monkeypatch.setenv("AMC_DISABLE", "amc-fixture-good")
    assert registry().handler_for_op("com.fixture.swish").spec.name == "swish2"


def test_a_handler_may_replace_another_distributions(only_fixtures: Put, write_dist: Write) -> None:
    better = handler_dist(write_dist, "better", name="swish3", op="com.fixture.swish", replaces="('amc-fixture-good',)")
    only_fixtures("good", better)
    assert registry().handler_for_op("com.fixture.swish").spec.name == "swish3"
    (loser,) = [record for record in registry().records() if record.name == "swish"]
    assert (loser.status, loser.problem) == ("disabled", "replaced by `swish3` of amc-fixture-better 1.0")


def test_two_captures_of_one_name_are_a_conflict(only_fixtures: Put, write_dist: Write) -> None:
    greedy = handler_dist(write_dist, "greedy", name="greedy", op="com.greedy.op", captures="('fixture_good.layers:Swish',)")
    only_fixtures("good", greedy)
    assert [spec.name for spec in registry().handlers()] == ["squash"]
    (record,) = [record for record in registry().records() if record.name == "greedy"]
    assert record.problem is not None
    assert record.problem.startswith(
        "the capture of `fixture_good.layers.Swish` is claimed by the layer handlers `greedy` of amc-fixture-gr"
    )


def test_a_capture_that_is_taken_over_leaves_the_rest_of_the_handler(only_fixtures: Put, write_dist: Write) -> None:
    captures = "('fixture_good.layers.Swish', 'x.y')"
    better = handler_dist(
        write_dist, "better", name="swish3", op="com.better.swish", captures=captures, replaces="('amc-fixture-good',)"
    )
    only_fixtures("good", better)
    owned = {spec.name: spec.captures for spec in registry().handlers()}
    assert owned == {
        "squash": ("fixture_good.layers.Squash",),
        "swish": ("fixture_good.layers.swish",),
        "swish3": ("fixture_good.layers.Swish", "x.y"),
    }
    assert registry().handler_for_op("com.fixture.swish").spec.name == "swish", "files that name the op still load"


class Scripted:
    """A handler of this test module."""

    def __init__(self, spec: LayerHandlerSpec) -> None:
        self.spec = spec


def test_a_script_may_register_a_handler(only_fixtures: Put) -> None:
    only_fixtures("good", "same_op")
    assert [spec.name for spec in registry().handlers()] == ["squash"]
    spec = LayerHandlerSpec(
        name="mine",
        op="com.fixture.swish",
        summary="x",
        api=AMC_API,
        target=f"{__name__}:Scripted",
        replaces=("amc-fixture-good", "amc-fixture-same-op"),
    )
    amc.register(spec)
    assert type(registry().handler_for_op("com.fixture.swish")).__name__ == "Scripted"
    assert {record.name: record.status for record in registry().records("layer_handlers")} == {
        "mine": "loaded",
        "squash": "loaded",
        "swish": "disabled",
        "swish2": "disabled",
    }


def test_a_built_in_op_names_the_distribution_to_install(only_fixtures: Put) -> None:
    only_fixtures()
    op, name = next(iter(catalog.OPS.items()))
    distribution = catalog.BUILT_IN["layer_handlers"][name]
    with pytest.raises(UnsupportedOpError) as caught:
        registry().handler_for_op(op)
    assert str(caught.value) == f"nothing handles the op `{op}`: {distribution} is not installed"
    assert caught.value.hint == f"pip install {distribution}"


def test_a_disabled_built_in_op_says_what_disables_it(
    only_fixtures: Put, write_dist: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, name = next(iter(catalog.OPS.items()))
    only_fixtures(handler_dist(write_dist, "builtin", name=name, op=op))
    monkeypatch.setenv("AMC_DISABLE", name)
    with pytest.raises(
        UnsupportedOpError, match=rf"nothing handles the op `{op}`: layer handler `{name}` .* is disabled by `{name}`"
    ):
        registry().handler_for_op(op)


def test_an_op_that_nobody_knows(only_fixtures: Put) -> None:
    only_fixtures("good")
    with pytest.raises(UnsupportedOpError) as caught:
        registry().handler_for_op("com.fixture.swich")
    assert str(caught.value).startswith(
        "no installed plugin handles the op `com.fixture.swich`; did you mean `com.fixture.swish`"
    )
    assert caught.value.hint is not None and "amc plugins doctor" in caught.value.hint


def test_targets_are_imported_by_path() -> None:
    assert import_target("collections:OrderedDict.fromkeys") == __import__("collections").OrderedDict.fromkeys
    for path, message in [
        ("collections", "`collections` does not name anything"),
        (":x", "`:x` does not name anything"),
        ("collections:OrderedDictt", "`collections` has no `OrderedDictt`; did you mean `OrderedDict`"),
        (
            "no_such_module_here:x",
            "importing `no_such_module_here` raised ModuleNotFoundError: No module named 'no_such_module_here'",
        ),
    ]:
        with pytest.raises(PluginError) as caught:
            import_target(path)
        assert str(caught.value).startswith(message)
