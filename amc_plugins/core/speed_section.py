"""What the report says of speed: PyTorch beside the engines that networks are deployed on, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amc_plugins.core.bars import Bar, bar_chart
from amc_plugins.core.results import Results

__all__ = ["speed_section"]

_DEPLOYED = "amc-onnx-export"
_FASTER = 1.05
"""What is less is not called faster: medians of so short a time differ by a few per cent by themselves."""


def speed_section(results: Results) -> dict[str, Any] | None:
    """The words, chart, absent engines and engines that gained nothing of a run's timings; None where it made none."""
    found = next((step.detail["speed"] for step in results.steps if isinstance(step.detail.get("speed"), dict)), None)
    if found is None:
        return None
    rows = [row for row in found.get("rows", ()) if isinstance(row, dict)]
    timed = [row for row in rows if isinstance(row.get("median"), float)]
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in timed:
        groups.setdefault(str(row["title"]), {})[str(row["network"])] = row
    names = list(dict.fromkeys(str(row["network"]) for row in timed))
    bars = [
        (
            title,
            [Bar(1e3 * pair[name]["median"], _said(pair, name, names), names.index(name)) for name in names if name in pair],
        )
        for title, pair in groups.items()
    ]
    absent = {str(row["title"]): str(row["reason"]) for row in rows if row.get("reason")}
    return {
        "words": _words(str(found.get("note", "")), len(groups)),
        "chart": bar_chart("Milliseconds of a call", bars, names),
        "absent": [f"{title}: {why}" for title, why in absent.items()],
        "no_faster": _no_faster(groups, names),
    }


def _no_faster(groups: Mapping[str, Mapping[str, Mapping[str, Any]]], names: Sequence[str]) -> str:
    """Which engines are no faster with the last network than with the first, and what the reason usually is."""
    gains = {
        title: pair[names[0]]["median"] / pair[names[-1]]["median"]
        for title, pair in groups.items()
        if len(names) > 1 and names[0] in pair and names[-1] in pair
    }
    slow = [f"{title} ({gain:.2f}×)" for title, gain in gains.items() if gain < _FASTER]
    if not slow:
        return ""
    return (
        f"No faster in {', '.join(slow)}. There are two usual reasons. Engines compute channels in blocks of 8 or 16 and leave "
        "their fast kernels for widths between: `round_to = 16` of `pruning` keeps whole blocks. Or the layers are so small "
        "that calling them is most of the time."
    )


def _said(pair: Mapping[str, Mapping[str, Any]], name: str, names: Sequence[str]) -> str:
    text = f"{1e3 * pair[name]['median']:.3g} ms"
    if name != names[0] and names[0] in pair:
        text += f", {pair[names[0]]['median'] / pair[name]['median']:.2f}×"
    return text


def _words(note: str, engines: int) -> str:
    if note:
        return note
    words = "Medians of calls with one thread, in turns, in the process of the run; `amc bench` measures more closely."
    if engines > 1:
        return f"{words} PyTorch's eager mode spends time between layers, which hides what small layers gain."
    return f"{words} No engine that networks are deployed on is installed: `pip install {_DEPLOYED}` adds ONNX Runtime."
