"""The Markdown of the tuners' figures, and the sentences on where a search gains and where it does not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.tables import TITLES

__all__ = ["markdown"]

_HEAD = """# What a search gains

Fashion-MNIST, networks of `benchmarks/networks.py`, one plan of `{method}` per network. Every tuner scores {evaluations}
candidates by the divergence of the outputs from the original's on {samples} of the 5,000 validation images, without labels,
the best three are confirmed on the others, where the plan's own allocation gives way only to what leads it by more than two
standard errors, and the winner is looked at on the 10,000 test images, which choose nothing: the
divergence of the assembled network (1/1000 nat, lower is better; it is what is searched for, and far less noisy than
accuracy), and accuracy in per cent after the sequential refit. Medians over the seeds, with the least and the most in
brackets; `uniform` and `allocation` are one candidate each. `cost` is the CPU time of scoring a candidate relative to the
bare pass over the same images.

    {command}
"""
_COLUMNS = "| tuner | seeds | test divergence | accuracy | over allocation | over uniform | found at | cost | CPU s |"
_BASES = ("allocation", "uniform")


def markdown(cells: Sequence[Mapping[str, Any]], command: str, samples: int, wanted: int) -> str:
    """One table a network and budget, then what follows from them. `cells` come sorted; `wanted` is their number when all
    are measured.
    """
    evaluations = max(int(cell["evaluations"]) for cell in cells)
    lines = [_HEAD.format(method=cells[0]["method"], evaluations=evaluations, samples=samples, command=command)]
    if len(cells) < wanted:
        lines.append(f"**Unfinished**: {len(cells)} of {wanted} cells; the column `seeds` has how many there are.\n")
    findings: list[str] = []
    for (network, budget), group in groupby(cells, key=lambda one: (one["network"], one["budget"])):
        rows = list(group)
        by_tuner = {tuner: list(members) for tuner, members in groupby(rows, key=lambda one: one["tuner"])}
        title = f"{TITLES[network]}, {100 * budget:g} % of the MACs removed"
        lines += [f"## {title} (original {rows[0]['original']:.2f} %)\n", _COLUMNS, "|---|" + "---:|" * 8]
        lines += [_row(tuner, members, by_tuner) for tuner, members in by_tuner.items()]
        lines.append("")
        findings += _findings(title, by_tuner)
    if findings:
        lines += ["## Where a search gains nothing\n", *(f"- {one}" for one in findings), ""]
    else:
        lines += ["Every search is better than both allocations on the test images in the median.", ""]
    return "\n".join(lines)


def _median(cells: Sequence[Mapping[str, Any]], key: str) -> float:
    return statistics.median(float(cell[key]) for cell in cells)


def _row(tuner: str, cells: Sequence[Mapping[str, Any]], by_tuner: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    gains = [
        f"{1000 * (_median(by_tuner[base], 'test_divergence') - _median(cells, 'test_divergence')):+.2f}"
        if base in by_tuner and base != tuner
        else ""
        for base in _BASES
    ]
    return (
        f"| {tuner} | {len(cells)} | {_spread(cells, 'test_divergence', 1000)} | {_spread(cells, 'test_accuracy', 1)} "
        f"| {gains[0]} | {gains[1]} | {_median(cells, 'found_at'):.0f} | {_median(cells, 'cost'):.2f} "
        f"| {_median(cells, 'cpu_seconds'):.0f} |"
    )


def _spread(cells: Sequence[Mapping[str, Any]], key: str, scale: float) -> str:
    values = [scale * float(cell[key]) for cell in cells]
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


def _findings(title: str, by_tuner: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Searches whose median is not better than an allocation, or than random candidates."""
    found = []
    for tuner, cells in by_tuner.items():
        if tuner in _BASES:
            continue
        mine = _median(cells, "test_divergence")
        rivals = [
            rival
            for rival in (*_BASES, "random")
            if rival != tuner and rival in by_tuner and mine >= _median(by_tuner[rival], "test_divergence")
        ]
        if rivals:
            found.append(f"{title}: `{tuner}` is no better than {' and '.join(f'`{one}`' for one in rivals)}.")
    return found
