"""Which ids are united by edges, and which channels share all their places: equal rows of a sparse matrix of channels by
places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

__all__ = ["Incidence", "united"]


def united(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """The connected components of a graph of `size` nodes with the edges (a, b): per node the smallest of its component.

    Every round hangs the roots that have a smaller neighbour below it and flattens the trees, which leaves at most half of
    the roots that still have neighbours (Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", 1982).
    """
    labels = np.arange(size)
    while True:
        a, b = labels[a], labels[b]
        apart = a != b
        if not apart.any():
            return labels
        a, b = a[apart], b[apart]
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        while True:
            above = labels[labels]
            if np.array_equal(above, labels):
                break
            labels = above


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
        matrix = self._matrix(rows, pinned)
        runs = _runs_of_equal_rows(matrix)
        groups: dict[bytes, list[npt.NDArray[np.int64]]] = defaultdict(list)
        places: dict[bytes, list[tuple[str, str]]] = {}
        for first, end in zip(runs, [*runs[1:], len(rows)], strict=True):
            entries = slice(matrix.indptr[first], matrix.indptr[first + 1])
            where = matrix.indices[entries]
            key = where.tobytes() + matrix.data[entries].tobytes()
            groups[key].append(rows[first:end])
            places.setdefault(key, [self._places[at] for at in where if at < len(self._places)])
        for key, members in groups.items():
            yield places[key], np.concatenate(members)

    def _matrix(self, rows: npt.NDArray[np.int64], pinned: npt.NDArray[np.bool_]) -> csr_matrix:
        """One row for each of `rows`: 1 at its places, and the number of its positions at each value that holds it."""
        columns = [*self._ids, *self._values]
        found = np.concatenate(columns)
        column = np.repeat(np.arange(len(columns)), [len(one) for one in columns])
        row_of = np.full(self._size, -1)
        row_of[rows] = np.arange(len(rows))
        row = row_of[found]
        told = (row >= 0) & (~pinned[found] | (column < len(self._places)))
        row, column = row[told], column[told]
        matrix = csr_matrix((np.ones(len(row), dtype=np.int64), (row, column)), shape=(len(rows), len(columns)))
        matrix.sort_indices()
        matrix.data[matrix.indices < len(self._places)] = 1
        return matrix


def _runs_of_equal_rows(matrix: csr_matrix) -> list[int]:
    """The first row of each run of rows that are equal: channels of one producer mostly stand side by side."""
    lengths = np.diff(matrix.indptr)
    entry = np.arange(len(matrix.indices))
    before = entry - np.repeat(lengths, lengths)  # the same entry of the row before, if that is as long
    differs = (matrix.indices != matrix.indices[before]) | (matrix.data != matrix.data[before])
    changed = np.ones(len(lengths), dtype=bool)
    changed[1:] = lengths[1:] != lengths[:-1]
    changed |= np.bincount(np.repeat(np.arange(len(lengths)), lengths), differs, minlength=len(lengths)) > 0
    runs: list[int] = changed.nonzero()[0].tolist()
    return runs
