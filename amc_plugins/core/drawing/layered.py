"""Layered layout (Sugiyama, Tagawa and Toda 1981): a rank and a horizontal place for every card and every bend of a wire.

A wire that passes ranks has one bend in each, shared by all its ends. igraph orders the ranks so that few wires cross; the
places within a rank are our own, since cards differ in width: alternating least squares under the order, by pooling adjacent
violators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import igraph

from amc_plugins.core.drawing.picture import Wire

__all__ = ["Layered", "Segment", "layered"]

BEND = 12.0
"""Width kept free for a wire that passes a rank."""
_GAP = 22.0
_SWEEPS = 24


@dataclass(frozen=True)
class Segment:
    """A piece of wire number `wire` between vertices of adjacent ranks; `port` is the input it ends at, or -1 at a bend."""

    wire: int
    start: int
    end: int
    port: int


@dataclass
class Layered:
    """Vertices below `cards` are cards, the others bends. `x` is a vertex's centre."""

    cards: int
    ranks: list[list[int]]
    rank: list[int]
    x: list[float]
    segments: list[Segment]
    spine: frozenset[tuple[int, int]]
    """Pairs of cards on the longest path, which is drawn straight."""


def layered(widths: Sequence[float], costs: Sequence[int], wires: Sequence[Wire]) -> Layered:
    """Lay out cards of these widths, given in an order in which every wire leads forward. `costs` breaks ties for the spine."""
    rank = _ranks(len(widths), wires)
    spine = _spine(len(widths), costs, wires)
    vertex_ranks, segments = _segments(rank, wires)
    sizes = [*widths, *([BEND] * (len(vertex_ranks) - len(widths)))]
    ranks = _ordered(vertex_ranks, segments)
    x = _placed(len(widths), ranks, sizes, segments, spine)
    return Layered(len(widths), ranks, vertex_ranks, x, segments, frozenset(spine))


def _ranks(cards: int, wires: Sequence[Wire]) -> list[int]:
    """Longest path from the inputs; what does not depend on an input stands right above its first use."""
    rank = [0] * cards
    fed = [False] * cards
    leaving: dict[int, list[int]] = {}
    entering: dict[int, list[int]] = {}
    for wire in wires:
        for end, _ in wire.ends:
            leaving.setdefault(wire.start, []).append(end)
            entering.setdefault(end, []).append(wire.start)
    for card in range(cards):
        sources = entering.get(card, ())
        rank[card] = max((rank[one] + 1 for one in sources), default=0)
        fed[card] = any(fed[one] for one in sources) or (not sources and card == 0)
    for card in reversed(range(cards)):
        if not fed[card] and card in leaving:
            rank[card] = max(rank[card], min(rank[one] for one in leaving[card]) - 1)
    return rank


def _spine(cards: int, costs: Sequence[int], wires: Sequence[Wire]) -> list[tuple[int, int]]:
    best: list[tuple[int, int, int]] = [(1, costs[card], -1) for card in range(cards)]  # length, cost, previous card
    steps = sorted((end, wire.start) for wire in wires for end, _ in wire.ends if not wire.faint)
    for end, start in steps:
        length, cost = best[start][0] + 1, best[start][1] + costs[end]
        if (length, cost) > best[end][:2]:
            best[end] = length, cost, start
    card = max(range(cards), key=lambda one: (best[one][:2], -one), default=-1)
    pairs = []
    while card >= 0 and best[card][2] >= 0:
        pairs.append((best[card][2], card))
        card = best[card][2]
    return pairs[::-1]


def _segments(rank: Sequence[int], wires: Sequence[Wire]) -> tuple[list[int], list[Segment]]:
    ranks = list(rank)
    segments: list[Segment] = []
    for number, wire in enumerate(wires):
        at = [wire.start]  # the vertex of this wire in each rank, from its start on
        for level in range(rank[wire.start] + 1, max(rank[end] for end, _ in wire.ends)):
            ranks.append(level)
            segments.append(Segment(number, at[-1], len(ranks) - 1, -1))
            at.append(len(ranks) - 1)
        for end, port in wire.ends:
            segments.append(Segment(number, at[rank[end] - 1 - rank[wire.start]], end, port))
    return ranks, segments


def _ordered(vertex_ranks: Sequence[int], segments: Sequence[Segment]) -> list[list[int]]:
    ranks: list[list[int]] = [[] for _ in range(max(vertex_ranks, default=-1) + 1)]
    for vertex, level in enumerate(vertex_ranks):
        ranks[level].append(vertex)
    if max(map(len, ranks), default=0) < 2:
        return ranks
    edges = sorted({(segment.start, segment.end) for segment in segments})
    graph = igraph.Graph(n=len(vertex_ranks), edges=edges, directed=True)
    made = graph.layout_sugiyama(layers=list(vertex_ranks), hgap=1, vgap=1, maxiter=100)
    layout = made[0] if isinstance(made, tuple) else made
    place = [layout[vertex][0] for vertex in range(len(vertex_ranks))]
    return [sorted(level, key=lambda vertex: (place[vertex], vertex)) for level in ranks]


def _placed(
    cards: int,
    ranks: Sequence[Sequence[int]],
    widths: Sequence[float],
    segments: Sequence[Segment],
    spine: Sequence[tuple[int, int]],
) -> list[float]:
    straight, fixed = set(spine), {card for pair in spine for card in pair}
    above: list[list[tuple[int, float]]] = [[] for _ in widths]
    below: list[list[tuple[int, float]]] = [[] for _ in widths]
    for segment in segments:
        bends = (segment.start >= cards) + (segment.end >= cards)
        weight = 32.0 if (segment.start, segment.end) in straight else (1.0, 2.0, 8.0)[bends]
        above[segment.end].append((segment.start, weight))
        below[segment.start].append((segment.end, weight))
    x = [0.0] * len(widths)
    gaps = [_separations(level, widths, cards) for level in ranks]
    for level, gap in zip(ranks, gaps, strict=True):
        _place(level, gap, [0.0] * len(level), [1e6 if one in fixed else 1.0 for one in level], x)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        both = sweep >= _SWEEPS - 6
        for index in range(len(ranks)) if down else reversed(range(len(ranks))):
            wanted, weights = [], []
            for vertex in ranks[index]:
                near = [*above[vertex], *below[vertex]] if both else above[vertex] if down else below[vertex]
                total = sum(weight for _, weight in near)
                if vertex in fixed:
                    wanted.append(0.0)
                    weights.append(1e6)
                elif total:
                    wanted.append(sum(weight * x[other] for other, weight in near) / total)
                    weights.append(total)
                else:
                    wanted.append(x[vertex])
                    weights.append(0.25)
            _place(ranks[index], gaps[index], wanted, weights, x)
    _straighten(cards, ranks, gaps, segments, fixed, x)
    return x


def _straighten(
    cards: int,
    ranks: Sequence[Sequence[int]],
    gaps: Sequence[Sequence[float]],
    segments: Sequence[Segment],
    fixed: set[int],
    x: list[float],
) -> None:
    """Give the bends of a wire that stay on one side of the spine one place: as near to its ends as what they pass allows."""
    start_of = {segment.end: segment.start for segment in segments if segment.end >= cards}
    ends_of: dict[int, list[int]] = {}
    for segment in segments:
        ends_of.setdefault(segment.start, []).append(segment.end)
    side: dict[int, int] = {}
    least: dict[int, float] = {}  # how near to the spine a vertex may come
    for level, gap in zip(ranks, gaps, strict=True):
        middle = next((place for place, one in enumerate(level) if one in fixed), None)
        for place, one in enumerate(level):
            side[one] = 0 if middle is None else (place > middle) - (place < middle)
            least[one] = 0.0 if middle is None else abs(gap[place] - gap[middle])
    wanted: dict[int, float] = {}
    done: set[int] = set()
    for bend in range(cards, len(x)):  # a wire's bends are numbered from its start on
        if bend in done:
            continue
        run = [bend]
        while nexts := [one for one in ends_of[run[-1]] if one >= cards and side[one] == side[bend]]:
            run.append(nexts[0])
        done.update(run)
        if side[bend] == 0:
            continue
        ends = [x[start_of[bend]], *(x[one] for one in ends_of[run[-1]])]
        near = min(abs(one) if one * side[bend] > 0 else 0.0 for one in ends)
        wanted.update(dict.fromkeys(run, side[bend] * max(near, *(least[one] for one in run))))
    for _ in range(2):
        for level, gap in zip(ranks, gaps, strict=True):
            if any(one in wanted for one in level):
                weights = [1e6 if one in fixed else 1e3 if one in wanted else 1.0 for one in level]
                _place(level, gap, [wanted.get(one, x[one]) for one in level], weights, x)


def _separations(level: Sequence[int], widths: Sequence[float], cards: int) -> list[float]:
    """Distances of the centres from the first one's when everything stands as close as it may."""
    sums = [0.0]
    for left, right in pairwise(level):
        gap = (_GAP, 0.6 * _GAP, 0.0)[(left >= cards) + (right >= cards)]
        sums.append(sums[-1] + (widths[left] + widths[right]) / 2 + gap)
    return sums


def _place(
    level: Sequence[int], gap: Sequence[float], wanted: Sequence[float], weights: Sequence[float], x: list[float]
) -> None:
    """Least squares to `wanted`, no two closer than `gap` says: isotonic regression of `wanted - gap`."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, vertices
    for want, offset, weight in zip(wanted, gap, weights, strict=True):
        mean, size, count = want - offset, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, more, before = blocks.pop()
            mean, size, count = (mean * size + other * more) / (size + more), size + more, count + before
        blocks.append((mean, size, count))
    index = 0
    for mean, _, count in blocks:
        for _ in range(count):
            x[level[index]] = mean + gap[index]
            index += 1
