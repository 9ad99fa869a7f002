"""The runner and the table of the model zoo: nothing that failed, was refused or was not measured is counted as passed."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from benchmarks.zoo.__main__ import ended, wanted
from benchmarks.zoo.child import outcome
from benchmarks.zoo.subject import Missing, Record, Refused, Subject
from benchmarks.zoo.table import markdown

VERSIONS = {"torch": "1", "timm": "2"}


def record(name: str, **parts: dict[str, Any]) -> Record:
    return {
        "name": name,
        "versions": VERSIONS,
        "parts": {part: {"code": "abc", "stages": stages} for part, stages in parts.items()},
    }


def passed(**facts: object) -> dict[str, object]:
    return {"state": "passed", **facts}


def test_every_state_is_counted_in_its_own_column() -> None:
    traced = passed(trace_seconds=3.0)
    records = [
        record(
            "torchvision/swin_a",
            amc={"build": passed(parameters=1000), "capture": passed(opaque=[]), "prune": passed(), "groups": passed(groups=3)},
            files={"files": passed()},
            lowrank={"lowrank": passed(removed=0.42)},
            tracers={"amc_trace": traced, "fx": passed(trace_seconds=1.5), "export": {"state": "failed", "why": "no"}},
        ),
        record(
            "torchvision/shufflenet_b",
            amc={
                "capture": {"state": "failed", "why": "CaptureError: line 7"},
                "prune": {"state": "left out", "why": "there is no network"},
            },
        ),
        record("timm/c", amc={"capture": passed(), "prune": {"state": "refused", "why": "only 3% (vn.mean at grn.py:46)"}}),
    ]
    text = markdown(records)
    assert "| captured | 2 (66.7%) | 0 | 1 | 0 |" in text
    assert "| pruned | 1 (33.3%) | 1 | 1 | 0 |" in text
    assert "| files | 1 (33.3%) | 0 | 0 | 2 |" in text
    assert "| `torch.export` | 0 (0.0%) | 0 | 1 | 2 |" in text
    assert "ShuffleNetV2: 0 of 1 captured, 0 pruned. Swin: 1 of 1 captured, 1 pruned." in text
    assert "2.0 times as long as `torch.fx.symbolic_trace`" in text
    assert "| torchvision/swin_a | 1,000 | yes |  | 3 |  | yes |  | 42% | yes | 3.00 | 1.50 | fails |  |  |" in text
    ours, theirs = text.split("## Where the others stop")
    assert "- timm/c, prune refused: only 3% (vn.mean at grn.py:46)" in ours and "CaptureError: line 7" in ours
    assert "- torchvision/swin_a, export failed: no" in theirs and "export failed" not in ours


@pytest.mark.parametrize(
    ("error", "state"),
    [(Refused("the model"), "refused"), (Missing("an earlier stage"), "left out"), (AssertionError("differs"), "failed")],
)
def test_what_a_stage_raises_is_its_state(error: Exception, state: str) -> None:
    def stage(_subject: Subject) -> Record:
        raise error

    found = outcome(Subject.__new__(Subject), stage)
    assert found["state"] == state and str(error) in found["why"]


def test_finished_parts_are_measured_again_only_on_request() -> None:
    done = record("a", amc={"capture": passed()}, files={"files": {"state": "failed", "why": ""}})
    assert not wanted(done, "amc", "no", "abc") and wanted(done, "tracers", "no", "abc")
    assert not wanted(done, "amc", "stale", "abc") and wanted(done, "amc", "stale", "other")
    assert not wanted(done, "amc", "failed", "abc") and wanted(done, "files", "failed", "abc")
    assert wanted(done, "amc", "all", "abc")


def test_a_killed_process_says_why() -> None:
    assert ended(-signal.SIGXCPU, "", 60) == "killed at the limit of 60 CPU seconds or for memory"
    assert ended(1, "Traceback\nValueError: no layer\n", 60) == "the process ended with status 1: ValueError: no layer"
