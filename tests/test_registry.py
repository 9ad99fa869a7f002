"""Loading one by one: every way in which a plugin can be broken is a problem of its own record, and hides nothing else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import amc_plugins as amc
from amc_plugins.core.discovery import PluginRecord
from amc_plugins.core.errors import AmcError, PluginError, SettingsError, UnknownPluginError
from amc_plugins.core.registry import Registry, registry, reset_registry
from amc_plugins.core.specs import AMC_API
from amc_plugins.plugin import CompressorSpec, Settings, TunerSpec

Put = Callable[..., None]
Write = Callable[..., Path]

DECLARE = """
from amc_plugins.plugin import *

class Code:
    def __init__(self, settings):
        self.settings = settings
"""


def record_of(records: list[PluginRecord], name: str) -> PluginRecord:
    (found,) = [record for record in records if record.name == name]
    return found


# --- good plugins -------------------------------------------------------------------------------------------------------


def test_asking_for_one_imports_only_its_module(only_fixtures: Put) -> None:
    only_fixtures("good", "duplicate_a", "import_error")
    spec = registry().spec("compressors", "twin")
    assert spec.summary == "from a"
    assert "fixture_duplicate_a.plugin" in sys.modules
    assert "fixture_good.plugin" not in sys.modules
    assert record_of(registry().records(), "unimportable").status == "available"


def test_the_code_is_imported_when_it_is_asked_for(only_fixtures: Put) -> None:
    only_fixtures("good")
    spec = registry().spec("compressors", "keep-first")
    assert "fixture_good._impl" not in sys.modules
    assert registry().target(spec).__name__ == "KeepFirst"
    assert "fixture_good._impl" in sys.modules


def test_a_module_is_imported_and_registered_once_for_all_its_entries(only_fixtures: Put, write_dist: Write) -> None:
    folder = write_dist(
        "counted",
        {"tuners": {"a": "fixture_counted", "b": "fixture_counted:sys.modules[x]"}, "trainers": {"c": "fixture_counted"}},
        DECLARE
        + """
import sys
sys.fixture_counted = getattr(sys, "fixture_counted", 0) + 1

@hookimpl
def amc_tuners():
    yield TunerSpec(name="a", summary="a", api=(1, 0), target="fixture_counted:Code")

@hookimpl
def amc_trainers():
    return TrainerSpec(name="c", summary="one, not in a list", api=(1, 0), target="fixture_counted:Code")
""",
    )
    only_fixtures(folder)
    try:
        found = {record.name: record.status for record in registry().load_all(targets=True)}
        assert sys.fixture_counted == 1  # type: ignore[attr-defined]
    finally:
        del sys.fixture_counted  # type: ignore[attr-defined]
    assert found == {"a": "loaded", "b": "broken", "c": "loaded"}


def test_create_gives_validated_settings_and_the_class(only_fixtures: Put) -> None:
    only_fixtures("good")
    settings, target = registry().create("compressors", "keep-first", {"share": "0.25", "schedule": {"rounds": 3}})
    assert settings.model_dump() == {
        "share": 0.25,
        "norm": "l2",
        "skip": [],
        "limit": None,
        "sorted": False,
        "schedule": {"rounds": 3},
    }
    assert target(settings).settings is settings
    again, _ = registry().create("compressors", "keep-first", settings)
    assert again is settings


def test_settings_errors_come_all_at_once_with_paths_and_nearest_names(only_fixtures: Put) -> None:
    only_fixtures("good")
    with pytest.raises(SettingsError) as caught:
        registry().create(
            "compressors",
            "keep-first",
            {"shar": 1, "norm": "l3", "limit": 0, "schedule": {"rounds": 9, "round": 1}, "sorted": True},
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == "settings of compressor `keep-first`:"
    assert lines[1:] == [
        "  norm: input should be 'l1' or 'l2' (given 'l3')",
        "  limit: input should be greater than or equal to 1 (given 0)",
        "  schedule.rounds: input should be less than or equal to 8 (given 9)",
        "  shar: unknown name; did you mean `share`?",
    ]
    assert caught.value.hint == "amc plugins show keep-first --kind compressors"
    assert "fixture_good._impl" not in sys.modules, "settings are checked before the code is imported"


def test_a_setting_that_is_not_implemented_refuses_all_but_its_default(only_fixtures: Put) -> None:
    only_fixtures("good")
    registry().create("compressors", "keep-first", {"sorted": False})
    with pytest.raises(SettingsError, match="`sorted` is not implemented yet: leave it at its default, False"):
        registry().create("compressors", "keep-first", {"sorted": True})


def test_settings_of_another_plugin_are_refused(only_fixtures: Put) -> None:
    only_fixtures("good")
    with pytest.raises(SettingsError, match="expected KeepFirstSettings or a mapping, given was Settings"):
        registry().create("compressors", "keep-first", Settings())


def test_observers_are_made_anew_for_each_run(only_fixtures: Put) -> None:
    only_fixtures("good")
    assert [spec.name for spec in registry().observers] == ["counter"]
    (first,) = registry().make_observers(["counter"])
    (second,) = registry().make_observers(["counter"])
    assert first is not second and first.epochs == []


# --- broken plugins -----------------------------------------------------------------------------------------------------

BROKEN = [
    (
        "import_error",
        "unimportable",
        "importing `fixture_import_error.plugin` raised ModuleNotFoundError: No module named",
        "install what",
    ),
    (
        "system_exit",
        "quitter",
        "importing `fixture_system_exit.plugin` raised SystemExit: no licence found",
        "pip install -U amc-fixture",
    ),
    (
        "wrong_type",
        "classy",
        "its entry point names `fixture_wrong_type.plugin:Plugin`, which is a type; it must name a mo",
        "write `fix",
    ),
    ("invalid_declaration", "shapeless", "invalid TunerSpec:\n  summary: missing", "correct the declaration"),
    (
        "misspelt_hook",
        "typo",
        "`amc_exportes` of `fixture_misspelt_hook.plugin` is not a hook; did you mean `amc_exporters`?",
        "rename or",
    ),
    (
        "future_api",
        "next-century",
        f"it is written for plugin API 2.0, this core has {AMC_API[0]}.{AMC_API[1]}",
        "pip install -U amc-plugins",
    ),
    ("future_api", "next-year", "it is written for plugin API 1.99, this core has 1.1", "pip install -U amc-plugins"),
    ("past_api", "last-century", "it is written for plugin API 0.9, this core has 1.1", "pip install -U amc-fixture-past-api"),
    (
        "wrong_names",
        "watcher",
        "`fixture_wrong_names.plugin` does not declare it: of this kind it declares `declared`, `watch",
        "the name",
    ),
    (
        "wrong_names",
        "watchman",
        "`fixture_wrong_names.plugin` declares it, but no entry point has its name",
        'add `watchman = "fixture',
    ),
    (
        "missing_code",
        "hollow",
        "`fixture_missing_code.plugin` has no `Triner`; did you mean `Trainer`",
        "reinstall amc-fixture-missing-code",
    ),
]


@pytest.mark.parametrize(("folder", "name", "problem", "hint"), BROKEN, ids=[row[1] for row in BROKEN])
def test_what_is_broken_is_explained_and_hides_nothing(
    only_fixtures: Put, folder: str, name: str, problem: str, hint: str
) -> None:
    only_fixtures(folder, "good")
    record = record_of(registry().load_all(targets=True), name)
    assert record.status == "broken"
    assert record.problem is not None and record.problem.startswith(problem)
    assert record.hint is not None and record.hint.startswith(hint)
    assert {one.status for one in registry().records() if one.distribution == "amc-fixture-good"} == {"loaded"}
    with pytest.raises(PluginError) as caught:
        registry().spec(record.kind, name)
    assert str(caught.value) == f"{record} is broken: {record.problem}"
    assert record.source in str(caught.value)
    assert caught.value.hint == record.hint


def test_an_invalid_declaration_lists_one_problem_a_line(only_fixtures: Put) -> None:
    only_fixtures("invalid_declaration")
    problem = record_of(registry().load_all(), "shapeless").problem
    assert problem is not None
    first, *lines = problem.splitlines()
    assert first == "invalid TunerSpec:"
    assert [line.partition(":")[0] for line in lines] == ["  summary", "  target", "  sumary"]
    assert lines[2] == "  sumary: unknown name; did you mean `summary`?"


def test_everything_broken_at_once(only_fixtures: Put, caplog: pytest.LogCaptureFixture) -> None:
    folders = ["good", "unreadable", "duplicate_a", "duplicate_b", *dict.fromkeys(row[0] for row in BROKEN)]
    only_fixtures(*folders)
    with caplog.at_level(logging.WARNING, "amc_plugins"):
        assert [spec.name for spec in registry().specs("compressors")] == ["keep-first"]
        warned = [line for line in caplog.messages if "is skipped" in line]
        registry().specs("compressors")
    assert warned == [line for line in caplog.messages if "is skipped" in line], "each is named once"
    assert len(warned) == 7
    assert any(
        line.startswith("compressor `quitter` (amc-fixture-system-exit 1.0) is skipped, it is broken: ") for line in warned
    )
    by_status: dict[str, set[str]] = {}
    for record in registry().load_all(targets=True):
        by_status.setdefault(record.status, set()).add(record.name)
    assert by_status["loaded"] == {"keep-first", "swish", "squash", "counter", "declared"}
    assert by_status["broken"] == {"?", "innocent", *(row[1] for row in BROKEN)}
    assert by_status["conflict"] == {"twin"}


MODULES: list[tuple[str, str, str]] = [
    ("no_hook", "", "`fixture_case` has no hook `amc_tuners`, so it declares no tuner"),
    ("no_marker", "def amc_tuners(): return []", "`amc_tuners` of `fixture_case` lacks the @hookimpl marker"),
    (
        "nearly",
        "def amc_tuner(): return []",
        "`amc_tuner` of `fixture_case` lacks the @hookimpl marker; did you mean `amc_tuners`?",
    ),
    (
        "argument",
        "@hookimpl\ndef amc_tuners(core): return []",
        "`fixture_case` has an invalid hook: Plugin 'fixture_case' for hook 'amc_tuners'",
    ),
    (
        "observes",
        "@hookimpl\ndef amc_epoch_ended(epoch): pass",
        "`amc_epoch_ended` of `fixture_case` is told to observers only: put it",
    ),
    (
        "dict",
        "@hookimpl\ndef amc_tuners(): return [{'name': 'x'}]",
        "`amc_tuners` returned {'name': 'x'} (dict) where a TunerSpec is expected",
    ),
    ("number", "@hookimpl\ndef amc_tuners(): return 3", "`amc_tuners` returned 3 (int) where a TunerSpec is expected"),
    ("string", "@hookimpl\ndef amc_tuners(): return 'ga'", "`amc_tuners` returned 'ga' (str) where a TunerSpec is expected"),
    (
        "class",
        "@hookimpl\ndef amc_tuners(): yield TunerSpec",
        "`amc_tuners` returned <class 'amc_plugins.core.specs.TunerSpec'> (Model",
    ),
    (
        "kind",
        "@hookimpl\ndef amc_tuners(): yield TrainerSpec(name='x', summary='x', api=(1, 0), target='fixture_case:Code')",
        "`amc_tuners` returned TrainerSpec(",
    ),
    (
        "raises",
        "@hookimpl\ndef amc_tuners():\n    yield from ()\n    raise OSError('disk')",
        "`amc_tuners` of `fixture_case` raised OSError: disk",
    ),
    ("exits", "@hookimpl\ndef amc_tuners():\n    raise SystemExit", "`amc_tuners` of `fixture_case` raised SystemExit"),
    ("syntax", "def (", "importing `fixture_case` raised SyntaxError: invalid syntax"),
    (
        "old_core",
        "from amc_plugins.plugin import SchedulerSpec",
        "importing `fixture_case` raised ImportError: cannot import name 'Sched",
    ),
    (
        "twice",
        "@hookimpl\ndef amc_tuners(): return [TunerSpec(name='x', summary='x', api=(1, 0), target='fixture_case:Code')] * 2",
        "`fixture_case` declares it 2 times",
    ),
    (
        "no_class",
        "@hookimpl\ndef amc_tuners(): return [TunerSpec(name='x', summary='x', api=(1, 0), target='fixture_case:hookimpl')]",
        "its target `fixture_case:hookimpl` is a HookimplMarker, expected a class",
    ),
    (
        "no_module",
        "@hookimpl\ndef amc_tuners(): return [TunerSpec(name='x', summary='x', api=(1, 0), target='fixture_case2:Code')]",
        "importing `fixture_case2` raised ModuleNotFoundError",
    ),
]


@pytest.mark.parametrize(("source", "problem"), [row[1:] for row in MODULES], ids=[row[0] for row in MODULES])
def test_every_mistake_of_a_module_has_its_sentence(only_fixtures: Put, write_dist: Write, source: str, problem: str) -> None:
    only_fixtures(write_dist("case", {"tuners": {"x": "fixture_case"}}, DECLARE + source + "\n"))
    (record,) = registry().load_all(targets=True)
    assert record.status == "broken"
    assert record.problem is not None and record.problem.startswith(problem)
    assert record.hint
    assert isinstance(record.error, BaseException), "what `--debug` shows"


def test_a_plugin_for_another_framework_version_says_so(only_fixtures: Put, write_dist: Write) -> None:
    only_fixtures(write_dist("case", {"tuners": {"x": "fixture_case"}}, "from amc_plugins.plugin import SchedulerSpec\n"))
    (record,) = registry().load_all()
    assert record.hint == "it was written for another version of the framework: pip install -U amc-plugins"


def test_ctrl_c_is_not_a_problem_of_the_plugin(only_fixtures: Put, write_dist: Write) -> None:
    only_fixtures(write_dist("case", {"tuners": {"x": "fixture_case"}}, "raise KeyboardInterrupt\n"))
    with pytest.raises(KeyboardInterrupt):
        registry().load_all()


def test_a_constructor_that_fails_names_the_plugin(only_fixtures: Put, write_dist: Write) -> None:
    source = DECLARE + (
        "class Bad:\n    def __init__(self, settings):\n        raise ZeroDivisionError('no')\n"
        "@hookimpl\ndef amc_observers(): yield ObserverSpec(name='x', summary='x', api=(1, 0), target='fixture_case:Bad')\n"
    )
    only_fixtures(write_dist("case", {"observers": {"x": "fixture_case"}}, source, version="7.1"))
    with pytest.raises(PluginError) as caught:
        registry().make_observers(["x"])
    assert str(caught.value) == "observer `x` (amc-fixture-case 7.1) is broken: Bad() raised ZeroDivisionError: no"


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (
            "@hookimpl\n    def amc_epoch_endet(self, epoch): pass",
            "`amc_epoch_endet` of `Bad` is not a hook; did you mean `amc_epoch_ended`",
        ),
        ("def amc_run_started(self, run): pass", "`amc_run_started` of `Bad` lacks the @hookimpl marker"),
        ("@hookimpl\n    def amc_run_started(self, runs): pass", "it has an invalid hook: "),
        ("@hookimpl\n    def amc_tuners(self): pass", "`amc_tuners` of `Bad` is not a hook"),
    ],
)
def test_the_hooks_of_an_observer_are_checked(only_fixtures: Put, write_dist: Write, method: str, problem: str) -> None:
    source = DECLARE + (
        f"class Bad(Code):\n    {method}\n"
        "@hookimpl\ndef amc_observers(): yield ObserverSpec(name='x', summary='x', api=(1, 0), target='fixture_case:Bad')\n"
    )
    only_fixtures(write_dist("case", {"observers": {"x": "fixture_case"}}, source))
    with pytest.raises(PluginError) as caught:
        registry().make_observers(["x"])
    assert str(caught.value).startswith(f"observer `x` (amc-fixture-case 1.0) is broken: {problem}")
    assert caught.value.hint


# --- disabled and in conflict -------------------------------------------------------------------------------------------


def test_what_is_disabled_is_never_imported(only_fixtures: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    only_fixtures("system_exit", "good")
    monkeypatch.setenv("AMC_DISABLE", "quitter,amc-fixture-good")
    assert {record.status for record in registry().load_all(targets=True)} == {"disabled"}
    assert not [name for name in sys.modules if name.startswith("fixture_")]
    with pytest.raises(
        UnknownPluginError, match=r"compressor `quitter` \(amc-fixture-system-exit 1.0\) is disabled by `quitter`"
    ) as caught:
        registry().spec("compressors", "quitter")
    assert caught.value.hint == "take `quitter` out of AMC_DISABLE or --disable"


def test_disabling_a_name_drops_its_declaration_alone(only_fixtures: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    only_fixtures("good")
    monkeypatch.setenv("AMC_DISABLE", "swish")
    assert [spec.name for spec in registry().specs("layer_handlers")] == ["squash"]
    assert {record.status for record in registry().load_all()} == {"loaded", "disabled"}


def test_neither_side_of_a_conflict_runs(only_fixtures: Put) -> None:
    only_fixtures("duplicate_a", "duplicate_b")
    with pytest.raises(UnknownPluginError) as caught:
        registry().spec("compressors", "twin")
    assert "amc-fixture-duplicate-a 1.0 and amc-fixture-duplicate-b 2.5" in str(caught.value)
    assert caught.value.hint is not None and "--disable amc-fixture-duplicate-b" in caught.value.hint
    assert registry().specs("compressors") == []


def test_replaces_resolves_a_conflict(only_fixtures: Put) -> None:
    only_fixtures("duplicate_a", "duplicate_b", "replacing")
    spec = registry().spec("compressors", "twin")
    assert spec.summary == "in place of another"
    owner = registry().owner(spec)
    assert owner is not None and (owner.distribution, owner.problem, owner.hint) == ("amc-fixture-replacing", None, None)
    losers = {record.distribution: (record.status, record.problem) for record in registry().records() if record is not owner}
    assert set(losers.values()) == {("disabled", "replaced by amc-fixture-replacing 3.0")}


def claiming(write_dist: Write, folder: str, *replaces: str) -> Path:
    """A distribution `amc-fixture-<folder>` that claims `twin` and replaces others."""
    source = DECLARE + (
        f"@hookimpl\ndef amc_compressors(): yield CompressorSpec(name='twin', summary='{folder}', api=(1, 0),"
        f" target='fixture_{folder}:Code', replaces={replaces!r})\n"
    )
    return write_dist(folder, {"compressors": {"twin": f"fixture_{folder}"}}, source)


def test_replacing_only_one_of_two_rivals_is_not_enough(only_fixtures: Put, write_dist: Write) -> None:
    only_fixtures("duplicate_a", "duplicate_b", claiming(write_dist, "half", "amc-fixture-duplicate-a"))
    assert [record.status for record in registry().load_all()] == ["conflict"] * 3


def test_two_that_replace_each_other_stay_in_conflict(only_fixtures: Put, write_dist: Write) -> None:
    only_fixtures(claiming(write_dist, "one", "amc-fixture-two"), claiming(write_dist, "two", "amc-fixture-one"))
    assert [record.status for record in registry().load_all()] == ["conflict"] * 2


def test_one_that_replaces_a_broken_rival_runs(only_fixtures: Put, write_dist: Write) -> None:
    broken = write_dist("broken", {"compressors": {"twin": "fixture_broken"}}, "import a_package_that_nobody_has")
    only_fixtures(broken, claiming(write_dist, "heir", "amc-fixture-broken"))
    assert registry().spec("compressors", "twin").summary == "heir"


# --- what is not there --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "message", "hint"),
    [
        ("compressors", "lowrank", "compressor `lowrank` is not installed", "pip install amc-lowrank"),
        ("exporters", "vnmodel", "exporter `vnmodel` is not installed", "pip install amc-venus-export"),
        (
            "compressors",
            "keep-frst",
            "there is no compressor `keep-frst`; did you mean `keep-first`?",
            "amc plugins list --kind compressors",
        ),
        (
            "compressors",
            "lowrnk",
            "there is no compressor `lowrnk`; did you mean `lowrank`?",
            "amc plugins list --kind compressors",
        ),
        (
            "tuners",
            "keep-first",
            "there is no tuner `keep-first`; there is a compressor of that name",
            "amc plugins list --kind tuners",
        ),
        (
            "tuner",
            "x",
            "there is no plugin kind `tuner`; did you mean `tuners` or `trainers`?",
            "the kinds are layer_handlers, compressors",
        ),
    ],
)
def test_asking_for_what_is_not_there(only_fixtures: Put, kind: str, name: str, message: str, hint: str) -> None:
    only_fixtures("good")
    with pytest.raises(UnknownPluginError) as caught:
        registry().spec(kind, name)
    assert str(caught.value) == message
    assert caught.value.hint is not None and caught.value.hint.startswith(hint)
    assert isinstance(caught.value, AmcError) and caught.value.exit_code == 2


# --- plugins of a script ------------------------------------------------------------------------------------------------


class Mine:
    """A compressor of this test module."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings


def mine(name: str = "mine", **more: Any) -> CompressorSpec:
    return CompressorSpec(**{"name": name, "summary": "of a script", "target": f"{__name__}:Mine", "api": AMC_API, **more})


def test_a_script_registers_a_plugin(only_fixtures: Put) -> None:
    only_fixtures("good")
    amc.register(mine())
    assert registry().create("compressors", "mine", {})[1] is Mine
    assert [(record.name, record.distribution, record.status) for record in amc.plugins("compressors")] == [
        ("keep-first", "amc-fixture-good", "available"),
        ("mine", "this script", "loaded"),
    ]
    amc.register(mine(summary="of a second try"))  # a notebook cell that runs again
    assert [spec.summary for spec in registry().specs("compressors")] == ["keep the first channels", "of a second try"]


def test_a_script_cannot_take_an_installed_name_by_accident(only_fixtures: Put) -> None:
    only_fixtures("good")
    with pytest.raises(PluginError, match=r"compressor `keep-first` is provided by amc-fixture-good 1\.0 already") as caught:
        amc.register(mine("keep-first"))
    assert caught.value.hint == "choose another name, or declare replaces=('amc-fixture-good',)"
    amc.register(mine("keep-first", replaces=("amc-fixture-good",)))
    assert registry().create("compressors", "keep-first", {})[1] is Mine


def test_a_script_for_another_api_is_refused(only_fixtures: Put) -> None:
    only_fixtures()
    with pytest.raises(PluginError, match=r"written for plugin API 9\.0, this core has 1.1") as caught:
        amc.register(mine(api=(9, 0)))
    assert caught.value.hint == "pip install -U amc-plugins"
    with pytest.raises(PluginError, match="expected a declaration such as CompressorSpec"):
        amc.register(Mine)  # type: ignore[arg-type]


def test_the_target_of_a_declaration_that_nobody_registered() -> None:
    empty = Registry(records=[])
    assert empty.load_all() == []
    with pytest.raises(PluginError, match=r"tuner `x` \(not registered\) is broken: importing `nowhere` raised"):
        empty.target(TunerSpec(name="x", summary="x", api=AMC_API, target="nowhere:X"))


def test_the_registry_of_a_process_is_one_object(only_fixtures: Put) -> None:
    only_fixtures("good")
    first = registry()
    assert registry() is first
    reset_registry()
    assert registry() is not first
