"""A picture as simple shapes in pixels, the same for SVG, PNG and HTML.

Tall pictures are broken into columns where few wires pass; a wire from the foot of one column to the head of the next runs
between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from amc_plugins.core.drawing.cards import CardFace, faces_of
from amc_plugins.core.drawing.columns import TRACK, Rows, Track, rows_of
from amc_plugins.core.drawing.layered import Layered, Segment, layered
from amc_plugins.core.drawing.legend import header_of
from amc_plugins.core.drawing.picture import Picture
from amc_plugins.core.drawing.primitives import Curve, Primitive, Tip

__all__ = ["PlacedCard", "PlacedWire", "Scene", "scene_of"]

MARGIN = 26.0
_NARROWEST = 460.0


@dataclass(frozen=True)
class PlacedCard:
    """Card number `index` of the picture."""

    index: int
    x: float
    y: float
    width: float
    height: float
    shapes: tuple[Primitive, ...]


@dataclass(frozen=True)
class PlacedWire:
    """Wire number `index` of the picture."""

    index: int
    shapes: tuple[Primitive, ...]


@dataclass
class Scene:
    """What is painted, in this order: header, wires, cards."""

    width: int
    height: int
    header: list[Primitive]
    wires: list[PlacedWire] = field(default_factory=list)
    cards: list[PlacedCard] = field(default_factory=list)


def scene_of(picture: Picture, *, head: bool = True) -> Scene:
    """Lay a picture out. `head=False` leaves out title and legend, for a page that has its own."""
    faces = faces_of(picture)
    found = layered([face.width for face in faces], [card.macs or 0 for card in picture.cards], picture.wires)
    rows = rows_of(found, [face.width for face in faces], [face.height for face in faces])
    width = math.ceil(max(rows.width + 2 * MARGIN, _NARROWEST if head else 0.0))
    header, top = header_of(picture, width, MARGIN) if head else ([], 0.0)
    place = _Places(found, faces, rows, (width - rows.width) / 2, top + MARGIN)
    scene = Scene(width, math.ceil(rows.height + top + 2 * MARGIN), header)
    drawn: dict[int, list[Primitive]] = {}
    for segment in found.segments:
        drawn.setdefault(segment.wire, []).extend(_piece(place, segment, picture.wires[segment.wire].faint))
    scene.wires = [PlacedWire(index, tuple(drawn[index])) for index in sorted(drawn)]
    for index, face in enumerate(faces):
        x, y = place.left(index), place.top(index)
        scene.cards.append(PlacedCard(index, x, y, face.width, face.height, tuple(one.moved(x, y) for one in face.shapes)))
    return scene


class _Places:
    """Where vertices are, and where wires leave and enter them. (`dx`, `dy`) moves the rows to their place in the picture."""

    def __init__(self, found: Layered, faces: Sequence[CardFace], rows: Rows, dx: float, dy: float) -> None:
        self.found, self.faces, self.rows, self.dx, self.dy = found, faces, rows, dx, dy
        self._entries: dict[Segment, float] = {}
        self._exits: dict[tuple[int, int], float] = {}
        arriving: dict[int, list[Segment]] = {}
        leaving: dict[int, dict[int, Segment]] = {}
        for segment in found.segments:
            if segment.end < found.cards:
                arriving.setdefault(segment.end, []).append(segment)
            if segment.start < found.cards:
                leaving.setdefault(segment.start, {}).setdefault(segment.wire, segment)
        for card, segments in arriving.items():
            segments.sort(key=lambda one: (found.x[one.start], one.wire, one.port))
            straight = [(one.start, card) in found.spine for one in segments]
            self._entries.update(zip(segments, _spread(straight, faces[card].width), strict=True))
        for card, wires in leaving.items():
            first = sorted(wires.values(), key=lambda one: (found.x[one.end], one.wire))
            straight = [(card, one.end) in found.spine for one in first]
            offsets = _spread(straight, faces[card].width)
            self._exits.update({(card, one.wire): offset for one, offset in zip(first, offsets, strict=True)})

    def rank(self, vertex: int) -> int:
        return self.found.rank[vertex]

    def x(self, vertex: int) -> float:
        return self.found.x[vertex] + self.rows.shift[self.rows.column[self.rank(vertex)]] + self.dx

    def left(self, card: int) -> float:
        return round(self.x(card) - self.faces[card].width / 2, 1)

    def top(self, card: int) -> float:
        rank = self.rank(card)
        return round(self.rows.top[rank] + self.dy + (self.rows.tall[rank] - self.faces[card].height) / 2, 1)

    def head(self, vertex: int) -> float:
        """The upper edge of the vertex's rank."""
        return self.rows.top[self.rank(vertex)] + self.dy

    def foot(self, vertex: int) -> float:
        """The lower edge of the vertex's rank."""
        return self.head(vertex) + self.rows.tall[self.rank(vertex)]

    def leaving(self, segment: Segment) -> tuple[float, float]:
        vertex = segment.start
        if vertex >= self.found.cards:
            return self.x(vertex), self.foot(vertex)
        return self.x(vertex) + self._exits[vertex, segment.wire], self.top(vertex) + self.faces[vertex].height

    def entering(self, segment: Segment) -> tuple[float, float]:
        if segment.end >= self.found.cards:
            return self.x(segment.end), self.head(segment.end)
        return self.x(segment.end) + self._entries[segment], self.top(segment.end)

    def track(self, segment: Segment) -> Track | None:
        """Where the segment runs when it goes on in the next column."""
        return self.rows.tracks.get((self.rank(segment.start), segment.wire))


def _spread(straight: Sequence[bool], width: float) -> list[float]:
    """Where wires meet the edge of a card, from its middle, which a straight one keeps."""
    room = width - 28.0
    step = min(16.0, room / max(1, len(straight) - 1))
    middle = straight.index(True) if True in straight else (len(straight) - 1) / 2
    return [max(-room / 2, min(room / 2, (index - middle) * step)) for index in range(len(straight))]


def _piece(place: _Places, segment: Segment, faint: bool) -> list[Primitive]:
    x0, y0 = place.leaving(segment)
    x1, y1 = place.entering(segment)
    arrives = segment.end < place.found.cards
    stop = y1 - 5.0 if arrives else y1
    foot, limit = place.foot(segment.start), min(stop, place.head(segment.end))
    steps: list[tuple[float, ...]] = [(x0, y0)]
    track = place.track(segment)
    if track is not None:
        low, side, high = track.low + place.dy, track.side + place.dx, track.high + place.dy
        steps.extend(_rounded([(x0, y0), (x0, low), (side, low), (side, high), (x1, high), (x1, limit)]))
    else:
        if foot > y0:
            steps.append((x0, foot))
        if abs(x1 - x0) < 0.5:
            steps.append((x1, limit))
        else:
            middle = (foot + limit) / 2
            steps.append((x0, middle, x1, middle, x1, limit))
    if stop > limit:
        steps.append((x1, stop))
    if not arrives:
        steps.append((x1, place.foot(segment.end)))
    shapes: list[Primitive] = [Curve(tuple(steps), "wire", 1.4, dash=faint)]
    if arrives:
        shapes.append(Tip(x1, y1, "wire"))
    return shapes


def _rounded(points: Sequence[tuple[float, float]], radius: float = 0.8 * TRACK) -> list[tuple[float, ...]]:
    """Steps along a polyline with its corners rounded; the first point is where the pen is already."""
    steps: list[tuple[float, ...]] = []
    for (ax, ay), (bx, by), (cx, cy) in zip(points, points[1:], points[2:], strict=False):
        before, after = math.hypot(bx - ax, by - ay), math.hypot(cx - bx, cy - by)
        r = min(radius, before / 2, after / 2)
        if r < 0.5:
            steps.append((bx, by))
            continue
        sx, sy = bx + (ax - bx) * r / before, by + (ay - by) * r / before
        ex, ey = bx + (cx - bx) * r / after, by + (cy - by) * r / after
        steps.append((sx, sy))
        steps.append((sx + (bx - sx) * 0.55, sy + (by - sy) * 0.55, ex + (bx - ex) * 0.55, ey + (by - ey) * 0.55, ex, ey))
    steps.append(points[-1])
    return steps
