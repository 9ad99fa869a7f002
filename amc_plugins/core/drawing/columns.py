"""Ranks in pixels: how far apart they stand, and where a tall picture is broken into columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from amc_plugins.core.drawing.layered import Layered

__all__ = ["TRACK", "Rows", "Track", "rows_of"]

TRACK = 9.0
"""Distance of wires that run beside each other between columns."""
_GAP = 26.0
_TALL = 1250.0
_ASPECT = 1.5
_BEND = 14.0


@dataclass(frozen=True)
class Track:
    """A wire's way from one column to the next: down to `low`, right to `side`, up to `high`."""

    low: float
    side: float
    high: float


@dataclass
class Rows:
    """By rank: its `column`, and its `top` and height `tall`. By column: `shift`, added to the places of its vertices."""

    width: float = 0.0
    height: float = 0.0
    column: list[int] = field(default_factory=list)
    top: list[float] = field(default_factory=list)
    tall: list[float] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)
    tracks: dict[tuple[int, int], Track] = field(default_factory=dict)
    """By last rank of a column and wire."""


def rows_of(found: Layered, widths: Sequence[float], heights: Sequence[float]) -> Rows:
    """Place the ranks; the picture's upper left corner is (0, 0)."""
    tall = [max((heights[one] for one in level if one < found.cards), default=_BEND) for level in found.ranks]
    reach = [0.0] * len(tall)
    passing: list[dict[int, float]] = [{} for _ in tall]
    for segment in found.segments:
        rank = found.rank[segment.start]
        reach[rank] = max(reach[rank], abs(found.x[segment.start] - found.x[segment.end]))
        passing[rank].setdefault(segment.wire, found.x[segment.start])
    gaps = [_GAP + min(40.0, 0.06 * one) for one in reach]
    extents = [_extent(found, widths, level) for level in found.ranks]
    widest = max(high for _, high in extents) - min(low for low, _ in extents)
    breaks = _breaks(tall, gaps, [len(one) for one in passing], widest)

    rows = Rows(tall=tall)
    start = max((len(passing[rank]) + 1 for rank in breaks), default=0) * TRACK
    y, left, first = start, 0.0, 0
    for rank, height in enumerate(tall):
        rows.column.append(len(rows.shift))
        rows.top.append(y)
        y += height + gaps[rank]
        last = rank == len(tall) - 1
        if rank not in breaks and not last:
            continue
        low, high = min(one for one, _ in extents[first : rank + 1]), max(one for _, one in extents[first : rank + 1])
        rows.shift.append(left - low)
        right, foot = left + high - low, y - gaps[rank]
        wires = [] if last else sorted(passing[rank], key=lambda one: (-passing[rank][one], one))
        for number, wire in enumerate(wires):  # the rightmost wire turns first, and last when it comes down again
            rows.tracks[rank, wire] = Track(
                foot + (number + 1) * TRACK, right + (number + 2) * TRACK, start - (len(wires) - number + 0.8) * TRACK
            )
        rows.width = right
        rows.height = max(rows.height, foot + (len(wires) + 1) * TRACK * bool(wires))
        left, y, first = right + (len(wires) + 4) * TRACK, start, rank + 1
    return rows


def _extent(found: Layered, widths: Sequence[float], level: Sequence[int]) -> tuple[float, float]:
    halves = {vertex: widths[vertex] / 2 if vertex < found.cards else 4.0 for vertex in level}
    return min(found.x[one] - half for one, half in halves.items()), max(found.x[one] + half for one, half in halves.items())


def _breaks(tall: Sequence[float], gaps: Sequence[float], passing: Sequence[int], width: float) -> set[int]:
    """Ranks after which a new column starts: about where the columns are equally tall, and where few wires pass."""
    feet, total = [], 0.0
    for height, gap in zip(tall, gaps, strict=True):
        total += height + gap
        feet.append(total)
    if total <= _TALL or total <= 1.6 * width:
        return set()
    columns = max(1, round(math.sqrt(_ASPECT * total / (width + 6 * TRACK))))
    aim = total / columns
    chosen: list[int] = []
    for number in range(1, columns):
        near = [
            rank
            for rank, foot in enumerate(feet[:-1])
            if abs(foot - number * aim) < 0.35 * aim and (not chosen or rank > chosen[-1])
        ]
        if near:
            chosen.append(min(near, key=lambda rank: (passing[rank] + 40.0 * ((feet[rank] - number * aim) / aim) ** 2, rank)))
    return set(chosen)
