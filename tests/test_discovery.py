"""Records from metadata alone: order, disabling before import, conflicts, damage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import amc_plugins as amc
from amc_plugins.core.discovery import KINDS, PluginRecord, discover, kind_word, normalized
from amc_plugins.core.registry import registry

Put = Callable[..., None]
Write = Callable[..., Path]


def status(records: list[PluginRecord]) -> dict[str, str]:
    return {f"{record.kind}:{record.name}@{record.distribution}": record.status for record in records}


def test_records_carry_what_metadata_knows(only_fixtures: Put) -> None:
    only_fixtures("good")
    assert [record.as_json() for record in discover("compressors")] == [
        {
            "kind": "compressors",
            "name": "keep-first",
            "distribution": "amc-fixture-good",
            "version": "1.0",
            "module": "fixture_good.plugin",
            "status": "available",
            "problem": None,
            "hint": None,
        }
    ]
    assert "fixture_good.plugin" not in sys.modules


def test_records_are_sorted_by_kind_name_and_distribution(only_fixtures: Put) -> None:
    only_fixtures("misspelt_hook", "duplicate_b", "good", "duplicate_a")
    keys = [(record.kind, record.name, record.distribution) for record in discover()]
    assert keys == sorted(keys)
    assert len(keys) == 8


def test_a_kind_that_does_not_exist_is_refused(only_fixtures: Put) -> None:
    with pytest.raises(ValueError, match="unknown kind `compressor`: the kinds are layer_handlers"):
        discover("compressor")
    with pytest.raises(ValueError, match="unknown kind"):
        amc.plugins("compressor")


@pytest.mark.parametrize("item", ["keep-first", "compressors:keep-first", "amc-fixture-good", "AMC_Fixture.Good"])
def test_a_name_a_kind_with_name_or_a_distribution_can_be_disabled(only_fixtures: Put, item: str) -> None:
    only_fixtures("good")
    (record,) = discover("compressors", disabled=[item])
    assert (record.status, record.problem) == ("disabled", f"disabled by `{item}`")
    assert record.hint is not None and item in record.hint
    others = {record.status for record in discover(disabled=[item]) if record.kind != "compressors"}
    assert others == ({"disabled"} if normalized(item) == "amc-fixture-good" else {"available"})


def test_the_environment_disables(only_fixtures: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    only_fixtures("good")
    monkeypatch.setenv("AMC_DISABLE", " tuners:swish, ,counter")
    found = {record.name: record.status for record in discover()}
    assert found == {"keep-first": "available", "counter": "disabled", "squash": "available", "swish": "available"}


def test_two_distributions_with_one_name_are_a_conflict_that_names_both(only_fixtures: Put) -> None:
    only_fixtures("duplicate_a", "duplicate_b")
    first, second = discover()
    assert (first.status, second.status) == ("conflict", "conflict")
    for record in (first, second):
        assert record.problem == "compressor `twin` is claimed by amc-fixture-duplicate-a 1.0 and amc-fixture-duplicate-b 2.5"
    assert first.hint is not None and "--disable amc-fixture-duplicate-b" in first.hint
    assert second.hint is not None and "--disable amc-fixture-duplicate-a" in second.hint


def test_disabling_one_ends_the_conflict(only_fixtures: Put) -> None:
    only_fixtures("duplicate_a", "duplicate_b")
    assert status(discover(disabled=["amc-fixture-duplicate-a"])) == {
        "compressors:twin@amc-fixture-duplicate-a": "disabled",
        "compressors:twin@amc-fixture-duplicate-b": "available",
    }


def test_one_distribution_that_names_two_modules_is_a_conflict_with_itself(only_fixtures: Put, write_dist: Write) -> None:
    folder = write_dist("double", {"tuners": {"x": "fixture_double"}}, "")
    (entries,) = folder.glob("*.dist-info/entry_points.txt")
    entries.write_text("[amc_plugins.tuners]\nx = fixture_double\nx = fixture_other\n")
    only_fixtures(folder)
    records = discover()
    assert [record.status for record in records] == ["conflict", "conflict"]
    assert records[0].hint is not None and records[0].hint.startswith("amc-fixture-double must give them different names")
    entries.write_text("[amc_plugins.tuners]\nx = fixture_double\nx = fixture_double\n")
    assert [record.status for record in discover()] == ["available"]


def test_an_unreadable_entry_point_file_is_a_record_and_hides_nothing(only_fixtures: Put) -> None:
    only_fixtures("unreadable", "good")
    records = discover("compressors")
    assert [(record.name, record.distribution, record.status) for record in records] == [
        ("?", "amc-fixture-unreadable", "broken"),
        ("keep-first", "amc-fixture-good", "available"),
    ]
    assert records[0].problem is not None and records[0].problem.startswith("its entry_points.txt cannot be read: ")
    assert len(discover()) == 5


def test_damaged_metadata_leaves_the_folder_name(only_fixtures: Put, write_dist: Write) -> None:
    folder = write_dist("anonymous", {"tuners": {"x": "fixture_anonymous"}}, "")
    (metadata,) = folder.glob("*.dist-info/METADATA")
    metadata.write_text("Metadata-Version: 2.1\n")
    only_fixtures(folder)
    (record,) = discover()
    assert (record.distribution, record.version, record.source) == ("amc_fixture_anonymous", "", "amc_fixture_anonymous")


def test_plugins_shows_what_this_process_has_loaded(only_fixtures: Put) -> None:
    only_fixtures("good")
    assert {record.status for record in amc.plugins()} == {"available"}
    registry().spec("compressors", "keep-first")
    assert {record.name: record.status for record in amc.plugins("compressors")} == {"keep-first": "loaded"}
    assert {record.status for record in amc.plugins("observers")} == {"available"}


def test_words_for_kinds() -> None:
    assert [kind_word(kind) for kind in KINDS] == ["layer handler", "compressor", "tuner", "trainer", "exporter", "observer"]
    assert str(PluginRecord("tuners", "ga", "amc-ga", "0.2", "amc_ga.plugin")) == "tuner `ga` (amc-ga 0.2)"
