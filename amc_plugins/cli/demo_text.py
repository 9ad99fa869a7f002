"""What `amc demo` prints: a line for each step while it works, then what came of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from amc_plugins.cli import render
from amc_plugins.cli.networks import side_by_side

if TYPE_CHECKING:
    from amc_plugins.demo.work import DemoResult

__all__ = ["as_json", "opening", "print_result", "said"]

_STEPS = {"compress": "{name}", "train": "{name}, retrained"}


def opening(folder: str) -> None:
    """What is about to happen."""
    render.text("AMC demo: a residual network on the digits of scikit-learn, brought to half of its multiply-adds in two ways.")
    render.text(f"Everything goes to {folder}; the recipes there can be changed and run again.")
    render.text()


def said(line: str) -> None:
    """One step is done. Seen at once, also through a pipe."""
    render.text(line)
    sys.stdout.flush()


def print_result(result: DemoResult) -> None:
    """Accuracy and MACs at every step, where the MACs went, the files, and what to look at."""
    render.text()
    columns = ["step", "MACs", "removed", "parameters", "validation", "test", "seconds"]
    rows = [
        [
            one["step"],
            f"{one['macs']:,}",
            f"{one['removed']:.1%}" if one["removed"] else "",
            f"{one['parameters']:,}",
            f"{one['validation']:.2%}",
            f"{one['test']:.2%}",
            f"{one['seconds']:.1f}",
        ]
        for one in _steps(result)
    ]
    render.table(columns, rows, right=columns[1:])
    render.text()
    names = [branch.name for branch in result.branches]
    render.table(["MACs of", "trained", *names], _layers(result), right=["trained", *names])
    render.text()
    files = [one for branch in result.branches for one in branch.reloads]
    rows = [[str(one.path), f"{one.bytes:,}", "equal bit for bit"] for one in files]
    render.table(["file", "bytes", "read back"], rows, right=["bytes"])
    render.text()
    for branch in result.branches:
        if branch.report is not None:
            render.text(f"report     {branch.report}")
    first, trained = result.branches[0], result.folder / "trained.pkl"
    smaller = result.folder / "smaller.pkl"
    render.text(f"try next   amc profile {trained} --compare {first.reloads[0].path}")
    render.text(f"           amc run {result.folder / first.name}.toml --set folder=less --set compress.total=0.3")
    render.text(
        f"           amc compress {trained} lowrank --calibration amc_plugins.demo.data:calibration --total 0.7 -o {smaller}"
    )


def as_json(result: DemoResult) -> dict[str, Any]:
    """All figures as JSON data."""
    return {
        "folder": str(result.folder),
        "steps": _steps(result),
        "files": [
            {"path": str(one.path), "bytes": one.bytes, "equal": one.equal}
            for branch in result.branches
            for one in branch.reloads
        ],
        "reports": [str(branch.report) for branch in result.branches if branch.report is not None],
    }


def _steps(result: DemoResult) -> list[dict[str, Any]]:
    macs = result.profile.total_macs
    rows = [_step("trained", macs, 0.0, result.profile.total_parameters, result.accuracy, result.seconds)]
    for branch in result.branches:
        for step in branch.steps:
            if step["kind"] in _STEPS:
                name = _STEPS[step["kind"]].format(name=branch.name)
                removed = 1.0 - step["macs"] / macs
                rows.append(_step(name, step["macs"], removed, step["parameters"], step["accuracy"], step["seconds"]))
    return rows


def _step(name: str, macs: int, removed: float, parameters: int, accuracy: dict[str, float], seconds: float) -> dict[str, Any]:
    figures = {"macs": macs, "removed": removed, "parameters": parameters}
    return {"step": name, **figures, "validation": accuracy["validation"], "test": accuracy["test"], "seconds": seconds}


def _layers(result: DemoResult) -> list[list[str]]:
    """MACs per layer of the trained network, and of what stands for it in each branch."""
    branches = [{line.name: line for line in side_by_side(result.profile, one.profile)} for one in result.branches]
    rows = []
    for row in result.profile.rows:
        if row.macs:
            after = [_count(lines[row.layer].macs_after) for lines in branches]
            rows.append([row.layer, f"{row.macs:,}", *after])
    return rows


def _count(macs: int | None) -> str:
    return "unknown" if macs is None else f"{macs:,}"
