"""Which ids are united by edges, and which channels share all their places: equal rows of a sparse matrix of channels by
places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Incidence", "distinct", "united"]


Hung = Sequence[tuple[int, npt.NDArray[np.int64]]]
"""Pairs of a node and (n,) smaller ones: it and those after it each have an edge to one of them. No node is in two."""


def united(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], size: int, hung: Hung = ()) -> npt.NDArray[np.int64]:
    """The connected components of a graph of `size` nodes with the edges (a, b), and those of `hung`: per node the smallest
    of its component.

    Every round hangs the roots that have a smaller neighbour below it and flattens the trees, which leaves at most half of
    the roots that still have neighbours (Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", 1982).
    """
    labels = np.arange(size)
    for start, below in hung:
        labels[start : start + len(below)] = below
    if hung:
        labels = _flat(labels)
    while True:
        a, b = labels[a], labels[b]
        apart = a != b
        if not apart.any():
            return labels
        a, b = a[apart], b[apart]
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        labels = _flat(labels)


def _flat(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Every node at the root of its tree, where it was at a node above it."""
    while not np.array_equal(above := labels[labels], labels):
        labels = above
    return labels


def distinct(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The ids without repetition, ascending. `np.unique` hashes them, which takes a hundred times as long for ids in a row."""
    ids = np.sort(ids)
    first = np.ones(len(ids), dtype=bool)
    np.not_equal(ids[1:], ids[:-1], out=first[1:])
    return ids[first]


class Incidence:
    """Collects, place by place, the channels that are there; `grouped` tells which of them share all their places.

    Args:
        size: number of channel ids.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._places: list[tuple[str, str]] = []
        self._ids: list[npt.NDArray[np.int64]] = []
        self._values: list[npt.NDArray[np.int64]] = []

    def add(self, role: str, name: str, ids: npt.NDArray[np.int64]) -> None:
        """The channels (n,) of a place."""
        self._places.append((role, name))
        self._ids.append(ids)

    def hold(self, ids: npt.NDArray[np.int64]) -> None:
        """The channels (n,) of a value, where it matters too how many positions each of them has."""
        self._values.append(ids)

    def grouped(
        self, rows: npt.NDArray[np.int64], pinned: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[list[tuple[str, str]], npt.NDArray[np.int64]]]:
        """The channels among `rows` (ascending) in groups of equal places, with those; values do not matter for pinned ones."""
        if not len(rows):
            return
        table = self._table(rows, pinned)
        runs = table.runs_of_equal_rows()
        groups: dict[bytes, list[npt.NDArray[np.int64]]] = defaultdict(list)
        first_of: dict[bytes, int] = {}
        for first, end in zip(runs, [*runs[1:], len(rows)], strict=True):
            key = table.entries[table.starts[first] : table.starts[first + 1]].tobytes()
            groups[key].append(rows[first:end])
            first_of.setdefault(key, first)
        for key, members in groups.items():
            where = table.entries[table.starts[first_of[key]] : table.starts[first_of[key] + 1], 0].tolist()
            places = [self._places[at] for at in where if at < len(self._places)]
            yield places, members[0] if len(members) == 1 else np.concatenate(members)

    def _table(self, rows: npt.NDArray[np.int64], pinned: npt.NDArray[np.bool_]) -> _Table:
        """One row for each of `rows`: 1 at its places, and the number of its positions at each value that holds it."""
        columns = [*self._ids, *self._values]
        found = np.concatenate(columns)
        column = np.arange(len(columns)).repeat([len(one) for one in columns])
        row_of = np.full(self._size, -1)
        row_of[rows] = np.arange(len(rows))
        row = row_of[found]
        told = (row >= 0) & (~pinned[found] | (column < len(self._places)))
        cells = row[told] * len(columns) + column[told]
        cells.sort()
        first = np.ones(len(cells), dtype=bool)
        np.not_equal(cells[1:], cells[:-1], out=first[1:])
        (at,) = first.nonzero()
        row, column = np.divmod(cells[at], len(columns))
        times = np.diff(at, append=len(cells))
        times[column < len(self._places)] = 1
        return _Table(row.searchsorted(np.arange(len(rows) + 1)), np.stack([column, times], axis=1))


class _Table(NamedTuple):
    """Row `i` of a sparse matrix has the `entries` (column, number) from `starts[i]` to `starts[i + 1]`."""

    starts: npt.NDArray[np.int64]
    entries: npt.NDArray[np.int64]

    def runs_of_equal_rows(self) -> list[int]:
        """The first row of each run of rows that are equal: channels of one producer mostly stand side by side."""
        lengths = np.diff(self.starts)
        entry = np.arange(len(self.entries))
        before = self.entries[entry - lengths.repeat(lengths)]  # the same entry of the row before, if that is as long
        changed = np.ones(len(lengths), dtype=bool)
        np.not_equal(lengths[1:], lengths[:-1], out=changed[1:])
        changed |= (
            np.bincount(np.arange(len(lengths)).repeat(lengths), (before != self.entries).any(1), minlength=len(lengths)) > 0
        )
        runs: list[int] = changed.nonzero()[0].tolist()
        return runs
