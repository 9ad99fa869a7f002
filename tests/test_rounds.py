"""Rounds of a recipe: as many as asked for, until an aim is reached, or until a round falls below the floor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import amc_plugins as amc
from amc_plugins.core import pipeline
from amc_plugins.core.errors import CheckFailed, RecipeError
from amc_plugins.core.recipe import read_recipe
from amc_plugins.core.report import write_report
from amc_plugins.core.results import read_results
from amc_plugins.core.rounds import ENOUGH, planned_rounds, share_of_round
from amc_plugins.core.snapshots import load_snapshot
from tests.work_files import Command, recipe

SHARES = st.floats(0.05, 0.95)


@given(total=SHARES, until=SHARES, more=st.floats(0.0, 0.02))
def test_the_planned_rounds_reach_the_aim_and_fewer_do_not(total: float, until: float, more: float) -> None:
    planned, left, done = planned_rounds(total, until), 1.0, 0
    assert (1 - total) ** (planned - 1) > (1 - until) * (1 - 1e-6)
    for number in range(1, planned + 1):
        share = share_of_round(total, until, left, last=number == planned)
        if share is None:
            break
        assert 0 < share <= total + 1e-6
        left, done = left * (1 - share) * (1 - more), done + 1  # a round may remove a little more than it was asked for
    assert left * (1 - ENOUGH) <= (1 - until) * (1 + 1e-6), "the aim is reached"
    assert share_of_round(total, until, left, last=True) is None


def test_the_last_round_removes_what_earlier_ones_fell_short_of() -> None:
    assert planned_rounds(0.5, 0.75) == 2
    assert share_of_round(0.5, 0.75, 0.55, last=False) == 0.5
    assert share_of_round(0.5, 0.75, 0.55, last=True) == pytest.approx(1 - 0.25 / 0.55)
    for total, until in ((0.0, 0.5), (0.5, 0.0), (1.0, 0.5), (0.5, 1.0)):
        with pytest.raises(ValueError, match="shares between 0 and 1"):
            planned_rounds(total, until)


TRAIN = """[train]
method = "supervised"
settings = { epochs = 2, learning_rate = 0.02 }
"""


def untrained(here: Path) -> Path:
    """A recipe that does not retrain."""
    path = recipe(here, more="[export.pkl]\n")
    text = path.read_text()
    assert TRAIN in text
    path.write_text(text.replace(TRAIN, ""))
    return path


def macs(folder: Path) -> dict[str, int]:
    return {step.name: step.macs or 0 for step in read_results(folder).networks}


def test_rounds_go_on_until_the_aim_is_reached(here: Path, amc_: Command) -> None:
    path = recipe(here, more="[export.pkl]\n")
    changes = ["--set", "until=0.6", "--set", "compress.total=0.3", "--set", "train.settings.epochs=1"]
    code, planned, _ = amc_("run", str(path), *changes, "--dry-run")
    assert code == 0 and "round3-compress" in planned and "round4" not in planned
    assert [("only what is missing of 60.0%" in line) for line in planned.splitlines() if "-compress" in line] == [
        False,
        False,
        True,
    ]
    code, out, _ = amc_("run", str(path), *changes)
    assert code == 0 and "no further round" not in out
    sizes = macs(here / "run")
    full, result = sizes["capture"], sizes["round3-train"]
    assert result == sizes["round3-compress"] and list(sizes)[-1] == "round3-train"
    assert 0.39 * full <= result <= 0.4 * full, "the target within one per cent"
    assert sizes["round1-compress"] <= 0.7 * full and sizes["round2-compress"] <= 0.7 * sizes["round1-compress"]
    assert sizes["round3-compress"] > 0.7 * sizes["round2-compress"], "only what was missing"
    assert read_results(here / "run").result == "round3-train"


def test_no_round_is_made_for_less_than_a_hundredth(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = untrained(here)
    whole = pipeline._Runner.compressed

    def generous(self: Any, network: Any, number: int, total: float | None) -> Any:
        return whole(self, network, number, 0.5)

    monkeypatch.setattr(pipeline._Runner, "compressed", generous)
    amc.run(path, overrides={"until": 0.49, "compress.total": 0.3})
    results = read_results(here / "run")
    assert [step.name for step in results.steps] == ["capture", "round1-compress", "export"]
    assert results.stopped.endswith("% were removed by then")
    assert f"No further round: {results.stopped}." in (here / "run" / "report.html").read_text()


def test_a_round_that_falls_below_the_floor_is_left_out(here: Path, amc_: Command) -> None:
    path = untrained(here)
    changes: dict[str, Any] = {"rounds": 3, "compress.total": 0.3, "folder": "free", "report": False}
    amc.run(path, overrides=changes)
    reached = [step.accuracy["validation"] for step in read_results(here / "free").networks]
    first, second = reached[1:3]
    assert first > second, "or this test shows nothing"
    floor = (first + second) / 2

    changes |= {"folder": "run", "floor.accuracy": floor, "report": True}
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    code, out, _ = amc_("run", str(path), *settings)
    assert code == 0
    results = read_results(here / "run")
    assert [step.name for step in results.steps] == ["capture", "round1-compress", "round2-compress", "export"]
    assert (results.result, results.kept[-1].name) == ("round1-compress", "round1-compress")
    assert results.stopped == (f"round 2 is left out: its validation accuracy is {second:.4f}, below the floor of {floor:g}")
    assert f"no further round: {results.stopped}" in out
    (layer, *_) = (one for one in results.steps[1].detail["layers"] if one["change"])
    kept = amc.load(here / "run" / "network.pkl")
    assert amc.profile(kept).total_macs == results.steps[1].macs and layer["macs_after"] < layer["macs_before"]

    page = (here / "run" / "report.html").read_text()
    assert "% of the MACs removed; left out</td>" in page and results.stopped in page
    (here / "run" / "report.html").unlink()
    assert write_report(here / "run").read_text() == page

    again = amc.run(path, overrides=changes)  # resumed: the same steps, the same choice
    assert [step["name"] for step in again.steps] == [step.name for step in results.steps]
    lower = amc.run(path, overrides={**changes, "floor.accuracy": 0.0})
    assert [step["name"] for step in lower.steps][3:] == ["round3-compress", "export"], "the floor may change"
    for key, value in load_snapshot(here / "free" / "round3-compress.pt").state_dict().items():
        assert torch.equal(value, lower.network.state_dict()[key])


def test_the_first_round_below_the_floor_ends_the_run(here: Path) -> None:
    path = recipe(here, more="[floor]\naccuracy = 1.0\n")
    with pytest.raises(CheckFailed, match=r"the result's validation accuracy is 0\.\d+, below the floor of 1$"):
        amc.run(path, overrides={"rounds": 2, "train": None, "report": False})
    results = read_results(here / "run")
    assert (results.result, [step.name for step in results.steps]) == (
        "round1-compress",
        ["capture", "round1-compress", "export"],
    )
    assert results.stopped.startswith("after round 1, validation accuracy is 0.")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"until": 0.6, "rounds": 2}, "`rounds` says how often to compress, and `until` how far: leave one out"),
        ({"until": 0.6, "compress.total": 0.0}, "`compress.total` is needed with `until`"),
        ({"until": 1.0}, "until: input should be less than 1"),
        (
            {"until": 0.6, "compress.settings.accuracy_threshold": 0.9},
            "`compress.settings.accuracy_threshold` says how far to compress, and so does `until`",
        ),
    ],
)
def test_what_says_twice_how_far_to_go_is_refused(here: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe(here), changes)
    assert words in str(caught.value)


def test_results_that_name_no_step_are_refused(here: Path) -> None:
    path = recipe(here)
    amc.run(path, overrides={"train": None, "report": False})
    file = here / "run" / "results.json"
    file.write_text(file.read_text().replace('"result": "round1-compress"', '"result": "round7-compress"'))
    with pytest.raises(RecipeError, match="`result` is `round7-compress`, which is no step with a network"):
        read_results(here / "run")
