"""The speed that every report states: measured in the run, drawn, and what is absent says how to get it."""

from __future__ import annotations

from typing import Any

import pytest

from amc_plugins.core import speed
from amc_plugins.core.bars import Bar, bar_chart
from amc_plugins.core.results import Results
from amc_plugins.core.speed_section import speed_section
from amc_plugins.testing.scenes import residual


def results(detail: dict[str, Any]) -> Results:
    row = {"name": "a", "layer": "a", "type": "Conv2d", "macs": 1, "parameters": 1}
    steps = [{"name": "capture", "kind": "capture", "profile": [row]}, {"name": "export", "kind": "export", "detail": detail}]
    return Results.model_validate({"schema": 1, "steps": steps})


def row(network: str, title: str, median: float | None, reason: str = "") -> dict[str, Any]:
    return {"network": network, "engine": title.lower(), "title": title, "threads": 1, "median": median, "reason": reason}


def test_what_is_measured_is_in_the_report(caplog: pytest.LogCaptureFixture) -> None:
    found = speed.measured_speed({"before": residual(), "after": residual()})
    timed = {(one["engine"], one["network"]): one for one in found["rows"] if one["median"]}
    assert {("eager", "before"), ("eager", "after"), ("onnxruntime", "before"), ("onnxruntime", "after")} <= set(timed)
    assert all(one["error"] < 1e-5 and one["batch"] == 1 and one["threads"] == 1 for one in timed.values())
    assert "ncnn" not in {one["engine"] for one in found["rows"]}, "what takes seconds to load is left to `amc bench`"
    section = speed_section(results({"speed": found}))
    assert section is not None and section["chart"].count("<rect") == len(timed)


def test_the_section() -> None:
    rows = [
        row("before", "PyTorch eager", 0.006),
        row("after", "PyTorch eager", 0.004),
        row("before", "X<y>", 0.002),
        row("after", "X<y>", 0.0005),
        row("before", "Z", None, "it is not here (pip install z)"),
        row("after", "Z", None, "it is not here (pip install z)"),
    ]
    section = speed_section(results({"speed": {"rows": rows}}))
    assert section is not None and "hides what small layers gain" in section["words"]
    assert section["absent"] == ["Z: it is not here (pip install z)"]
    chart = section["chart"]
    assert [one in chart for one in ("6 ms<", "4 ms, 1.50×<", "2 ms<", "0.5 ms, 4.00×<")] == [True] * 4
    assert "X&lt;y&gt;" in chart and "X<y>" not in chart and ">before<" in chart and ">after<" in chart
    assert section["no_faster"] == ""
    slow = speed_section(results({"speed": {"rows": [*rows, row("before", "Q", 0.004), row("after", "Q", 0.0039)]}}))
    assert slow is not None and slow["no_faster"].startswith("No faster in Q (1.03×).") and "round_to = 16" in slow["no_faster"]
    alone = speed_section(results({"speed": {"rows": rows[:2]}}))
    assert alone is not None and "`pip install amc-onnx-export` adds ONNX Runtime" in alone["words"]
    assert speed_section(results({})) is None


def test_what_takes_too_long_is_left_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_MOST", 1000)
    found = speed.measured_speed({"before": residual()})
    section = speed_section(results({"speed": found}))
    assert found["rows"] == [] and section is not None and "`amc bench` does that" in section["words"]
    assert section["chart"] is None


def test_bars_are_as_long_as_their_values() -> None:
    chart = bar_chart("A & b", [("one", [Bar(4.0, "4")]), ("two", [Bar(1.0, "1", 1)])], ["x"])
    assert chart is not None and "A &amp; b" in chart
    widths = [float(part.partition('"')[0]) for part in chart.split('width="')[1:]]
    assert widths[0] == pytest.approx(4 * widths[1], abs=0.25)  # widths are written with one decimal
    assert bar_chart("nothing", [("one", [])], []) is None
    long = bar_chart("T", [("one", [Bar(4.0, "4.000 ms, 0.50 of it")])], ["x"])
    assert long is not None and float(long.split('width="')[1].partition('"')[0]) < widths[0], "room for the text"
