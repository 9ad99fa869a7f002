"""The promises of docs/versions.md: plugins for the previous minor version work, and what is renamed says so."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import Field
from torch import nn

import amc_plugins as amc
from amc_plugins.core import hookspecs
from amc_plugins.core.discovery import KINDS, _read
from amc_plugins.core.registry import registry, reset_registry
from amc_plugins.core.validation import validated
from amc_plugins.plugin import AMC_API, Settings, SettingsError, deprecated
from amc_plugins.testing import assert_masked_equals_shrunk
from amc_plugins.training import Run
from tests.conftest import DISTS

POLICY = (Path(__file__).parent.parent / "docs" / "versions.md").read_text(encoding="utf-8")


@pytest.fixture
def previous(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The plugin for the previous minor version, beside everything that is installed."""
    monkeypatch.syspath_prepend(str(DISTS / "previous_minor"))
    assert any(record.distribution == "amc-fixture-previous-minor" for record in _read())
    reset_registry()
    yield "fixture_previous_minor"
    reset_registry()
    for name in [one for one in sys.modules if one.startswith("fixture_previous_minor")]:
        del sys.modules[name]


def test_the_fixture_is_for_the_previous_minor_version(previous: str) -> None:
    """When `AMC_API` grows, a fixture for the version that was must follow."""
    ours = [record for record in registry().load_all(targets=True) if record.distribution == "amc-fixture-previous-minor"]
    assert {record.kind for record in ours} == set(KINDS)
    assert [record.problem for record in ours if record.status != "loaded"] == []
    written = {registry().spec(record.kind, record.name).api for record in ours if record.name != "halfmish"}
    assert written == {(AMC_API[0], AMC_API[1] - 1)}


def test_a_plugin_for_the_previous_minor_version_works(previous: str, tmp_path: Path) -> None:
    """One of every kind, used from capture to file. Warnings are errors here."""
    layers, code = (importlib.import_module(f"{previous}.{name}") for name in ("layers", "_code"))
    images = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), layers.Scale(8), layers.HalfMish(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)
    )
    network = amc.capture(model.eval(), images, strict=True)
    assert {"old.scale", "fixture_previous_minor.halfmish"} <= {node.op for node in network.graph.nodes}
    assert_masked_equals_shrunk(network, images)
    result = amc.compress(network, "old-keep-first", calibration=[images], total=0.4, least=2)
    assert result.removed >= 0.4
    plan = amc.prepare(network, "old-keep-first", calibration=[images])
    search = amc.tune(plan, "old-random", total=0.3, evaluations=3, baselines=False, confirm=0, folder=tmp_path / "search")
    assert plan.removed(search.best.candidate) >= 0.3
    with Run("old", tmp_path / "run", registry().make_observers(["old-list"])) as run:
        trained = amc.train(result.network, "old-still", train=[(images, images)], run=run)
    assert code.TOLD[-2:] == [("epoch", 1), ("end", None)]
    path = amc.export(trained.network, "old-json", tmp_path / "network")
    assert path.suffix == ".oldjson" and "old.scale" in path.read_text()


def test_a_deprecated_hook_warns_with_its_replacement_and_works(previous: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/versions.md says hooks are deprecated: through pluggy."""
    marks = hookspecs.amc_tuners.amc_plugins_spec  # type: ignore[attr-defined]
    monkeypatch.setitem(marks, "warn_on_impl", DeprecationWarning("`amc_tuners` is going: use `amc_searches` instead"))
    with pytest.warns(DeprecationWarning, match="use `amc_searches` instead"):
        assert registry().spec("tuners", "old-random").name == "old-random"


def test_the_policy_names_the_version_that_there_is() -> None:
    assert f"now `{AMC_API}`" in POLICY
    assert f"| {AMC_API[0]}.{AMC_API[1]} |" in POLICY


class Renaming(Settings):
    """Settings whose `keep` got a better name."""

    renamed: ClassVar[dict[str, str]] = {"keep": "keep_at_least"}

    keep_at_least: int = Field(1, ge=1, description="channels that always stay")


def test_an_old_name_of_a_setting_is_taken_and_names_the_new_one() -> None:
    with pytest.warns(FutureWarning, match="the setting `keep` is called `keep_at_least` now"):
        settings = validated(Renaming, {"keep": 3}, what="settings")
    assert settings == Renaming(keep_at_least=3)
    with pytest.warns(FutureWarning), pytest.raises(SettingsError, match="greater than or equal to 1"):
        validated(Renaming, {"keep": 0}, what="settings")


def test_an_old_and_a_new_name_together_are_refused() -> None:
    with pytest.raises(SettingsError, match="`keep` is the old name of `keep_at_least`, and both are given"):
        validated(Renaming, {"keep": 3, "keep_at_least": 4}, what="settings")


def test_what_is_deprecated_warns_with_the_replacement_where_it_is_called() -> None:
    """As docs/versions.md says functions, methods and classes are deprecated; type checkers see the mark too."""

    @deprecated("use `keep_at_least` instead")
    def keep(count: int) -> int:
        return count

    @deprecated("use `amc.Budget` instead")
    class OldBudget:
        pass

    with pytest.warns(DeprecationWarning, match="use `keep_at_least` instead") as caught:
        assert keep(3) == 3
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"use `amc\.Budget` instead"):
        OldBudget()
    assert keep.__deprecated__ == "use `keep_at_least` instead"  # type: ignore[attr-defined]
