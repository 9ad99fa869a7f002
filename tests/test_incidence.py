"""Which channels share all their places, against the definition; shapes that are broadcast, against torch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from amc_plugins.core.incidence import Incidence, distinct, united
from amc_plugins.handlers import broadcast_shape

SIZE = 9
Places = st.lists(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=12), min_size=1, max_size=5)


@given(Places, Places, st.sets(st.integers(0, SIZE - 1)), st.sets(st.integers(0, SIZE - 1)))
def test_groups_are_the_channels_with_equal_places(
    places: list[list[int]], values: list[list[int]], pinned: set[int], rows: set[int]
) -> None:
    table = Incidence(SIZE)
    for number, ids in enumerate(places):
        table.add("at", str(number), np.array(ids))
    for ids in values:
        table.hold(np.array(ids))
    made = sorted({one for ids in places for one in ids} & rows)

    def everything(channel: int) -> tuple[object, ...]:
        counts = () if channel in pinned else tuple(ids.count(channel) for ids in values)
        return (*(channel in ids for ids in places), *counts)

    expected: dict[tuple[object, ...], list[int]] = {}
    for channel in made:
        expected.setdefault(everything(channel), []).append(channel)
    mask = np.isin(np.arange(SIZE), list(pinned))
    found = list(table.grouped(np.array(made, dtype=np.int64), mask))
    assert [ids.tolist() for _, ids in found] == list(expected.values())
    for roles, ids in found:
        assert roles == [("at", str(number)) for number, one in enumerate(places) if int(ids[0]) in one]


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_united_is_the_smallest_of_the_connected_component(graph: tuple[int, list[tuple[int, int]]]) -> None:
    size, edges = graph
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    _, expected = connected_components(coo_matrix((np.ones(len(edges)), ends), shape=(size, size)), directed=False)
    smallest = [min(np.flatnonzero(expected == one).tolist()) for one in expected]
    assert united(ends[0], ends[1], size).tolist() == smallest


Hung = st.lists(st.lists(st.integers(0, 1 << 16), min_size=1, max_size=4), max_size=6)


@given(st.integers(1, 8), Hung, st.data())
def test_what_hangs_is_united_as_by_edges(first: int, rows: list[list[int]], data: st.DataObject) -> None:
    size, hung, edges = first, [], []
    for row in rows:
        below = [one % size for one in row]
        hung.append((size, np.array(below)))
        edges += [(size + at, one) for at, one in enumerate(below)]
        size += len(row)
    more = data.draw(st.lists(st.tuples(*[st.integers(0, size - 1)] * 2)))
    both = np.array(edges + more, dtype=np.int64).reshape(-1, 2).T
    alone = np.array(more, dtype=np.int64).reshape(-1, 2).T
    assert united(alone[0], alone[1], size, hung).tolist() == united(both[0], both[1], size).tolist()


@given(st.lists(st.integers(-3, 9)))
def test_distinct_is_numpys_unique(ids: list[int]) -> None:
    assert distinct(np.array(ids, dtype=np.int64)).tolist() == np.unique(ids).tolist()


def test_united_along_a_path_in_any_order() -> None:
    path = np.random.default_rng(0).permutation(1000)
    assert (united(path[:-1], path[1:], 1001)[:1000] == 0).all()


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=3))
def test_broadcast_shapes(shapes: list[list[int]]) -> None:
    given = [tuple(one) for one in shapes]
    try:
        expected: tuple[int, ...] | None = tuple(torch.broadcast_shapes(*given))
    except RuntimeError:
        expected = None
    assert broadcast_shape(*given) == expected
