"""Seconds of one node at any size, from measurements at few: between them by blocks, as the kernels of a machine work."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from amc_plugins.core.outlines import Piece

__all__ = ["NodeModel"]

_KNOTS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_BLOCK = 16
"""The widest step that is looked for; narrower layers are taken for straight between the knots."""
_CLEAR = 0.02
"""Of the time: a rise over a block below it shows no steps."""


@dataclass
class _Axis:
    """One size that varies by itself, and what varies with it: `int[column] = slope * value + offset`."""

    column: int
    follows: list[tuple[int, float, float]]
    low: int
    high: int
    step: int = 8

    @property
    def knots(self) -> list[int]:
        return sorted({self.low, self.high, *(one for one in _KNOTS if self.low < one < self.high)})

    @property
    def steps_at(self) -> tuple[int, int, int] | None:
        """Both ends of a block, and its first value: where steps of a whole block show."""
        start = (self.high // _BLOCK - 1) * _BLOCK
        return (start, start + 1, start + _BLOCK) if start >= max(_BLOCK, self.low) else None

    def rounded(self, value: int) -> int:
        """Up to a whole step: the last channels of a block cost as much as all of it."""
        if value <= _BLOCK:
            return value
        return min(-(-value // self.step) * self.step, self.high)


@dataclass
class NodeModel:
    """The seconds of the kernels of one structure whose sizes are among, or between, the samples'.

    One or two sizes that vary by themselves span a grid: the times at its knots are measured, and times between are linear in
    the size rounded up to the machine's step, which is measured as well (16, 8 or 1 channels). Of three and more, only the
    number of entries read and written counts, linear between the samples.
    """

    structure: object
    base: tuple[int, ...]
    axes: list[_Axis] = field(default_factory=list)
    samples: list[tuple[float, Piece]] = field(default_factory=list)
    """(entries, kernel), ascending, where there is no grid."""
    _grid: dict[tuple[int, ...], float] = field(default_factory=dict)
    _line: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def of(cls, kernels: Iterable[Piece], entries: Mapping[Piece, float]) -> NodeModel:
        """A model of kernels of one structure. `entries`: how much each reads and writes."""
        found = list(dict.fromkeys(kernels))
        structure, base = found[0]
        table = np.array([ints for _, ints in found], dtype=np.int64)
        spans = table.max(0) - table.min(0)
        axes: list[_Axis] = []
        for column in sorted(np.flatnonzero(spans).tolist(), key=lambda one: (int(spans[one]), one)):
            values = table[:, column]
            for axis in axes:
                line = _line_through(table[:, axis.column], values)
                if line is not None:
                    axis.follows.append((column, *line))
                    break
            else:
                axes.append(_Axis(column, [], int(values.min()), int(values.max())))
        if len(axes) <= 2:
            return cls(structure, base, axes)
        ordered = sorted(found, key=lambda one: entries[one])
        chosen = dict.fromkeys((ordered[0], ordered[len(ordered) // 2], ordered[-1]))
        return cls(structure, base, samples=[(entries[one], one) for one in chosen])

    def needed(self) -> list[Piece]:
        """The kernels to measure."""
        if self.samples:
            return [kernel for _, kernel in self.samples]
        top = [axis.high for axis in self.axes]
        places = set(itertools.product(*(axis.knots for axis in self.axes)))
        for index, axis in enumerate(self.axes):
            for value in axis.steps_at or ():
                places.add((*top[:index], value, *top[index + 1 :]))
        return [self._kernel(place) for place in sorted(places)]

    def learn(self, times: Mapping[Piece, float]) -> None:
        """Take the times of the kernels needed."""
        self._line = [(entries, times[kernel]) for entries, kernel in self.samples]
        if self.samples:
            return
        self._grid = {place: times[self._kernel(place)] for place in itertools.product(*(axis.knots for axis in self.axes))}
        top = [axis.high for axis in self.axes]
        for index, axis in enumerate(self.axes):
            if axis.steps_at is None:
                continue
            low, first, high = (times[self._kernel((*top[:index], at, *top[index + 1 :]))] for at in axis.steps_at)
            rise = high - low
            share = (first - low) / rise if rise > _CLEAR * low else 0.0
            axis.step = 16 if share > 0.75 else 8 if share > 0.25 else 1

    def seconds(self, kernel: Piece, entries: float) -> float:
        if self.samples:
            sizes, times = zip(*self._line, strict=True)
            return float(np.interp(entries, sizes, times))
        at = [axis.rounded(kernel[1][axis.column]) for axis in self.axes]
        corners = [_around(axis.knots, value) for axis, value in zip(self.axes, at, strict=True)]
        total = 0.0
        for corner in itertools.product(*corners):
            total += math.prod(weight for _, weight in corner) * self._grid[tuple(knot for knot, _ in corner)]
        return total

    def _kernel(self, place: Sequence[int]) -> Piece:
        ints = list(self.base)
        for axis, value in zip(self.axes, place, strict=True):
            ints[axis.column] = value
            for column, slope, offset in axis.follows:
                ints[column] = round(slope * value + offset)
        return self.structure, tuple(ints)


def _around(knots: Sequence[int], value: int) -> list[tuple[int, float]]:
    """The knots beside a value with their weights."""
    value = min(max(value, knots[0]), knots[-1])
    place = bisect_right(knots, value) - 1
    if knots[place] == value:
        return [(value, 1.0)]
    low, high = knots[place], knots[place + 1]
    share = (value - low) / (high - low)
    return [(low, 1.0 - share), (high, share)]


def _line_through(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Slope and offset if all points lie on one line."""
    first, last = int(x.argmin()), int(x.argmax())
    slope = float(y[last] - y[first]) / float(x[last] - x[first])
    offset = float(y[first]) - slope * float(x[first])
    return (slope, offset) if np.allclose(slope * x + offset, y, rtol=0, atol=1e-6) else None
