"""The few shapes that pictures are made of. Lengths are pixels; colours are roles of `theme`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["Box", "Curve", "Label", "Primitive", "Tip"]


@dataclass(frozen=True)
class Box:
    """A rectangle with rounded corners; `stroke=None` has no border."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str
    stroke: str | None = None
    thickness: float = 1.0
    dash: bool = False

    def moved(self, dx: float, dy: float) -> Box:
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True)
class Label:
    """A line of text; `y` is its base line."""

    x: float
    y: float
    text: str
    size: float
    fill: str = "text"
    bold: bool = False
    anchor: Literal["start", "middle", "end"] = "start"

    def moved(self, dx: float, dy: float) -> Label:
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True)
class Curve:
    """A line: the first step is where it starts, then (x, y) is a straight one, (x1, y1, x2, y2, x, y) a cubic Bézier curve."""

    steps: tuple[tuple[float, ...], ...]
    stroke: str
    thickness: float
    dash: bool = False

    def moved(self, dx: float, dy: float) -> Curve:
        offsets = (dx, dy)
        return replace(self, steps=tuple(tuple(one + offsets[i % 2] for i, one in enumerate(step)) for step in self.steps))


@dataclass(frozen=True)
class Tip:
    """An arrow head that points down at (x, y)."""

    x: float
    y: float
    fill: str
    size: float = 6.0

    def moved(self, dx: float, dy: float) -> Tip:
        return replace(self, x=self.x + dx, y=self.y + dy)

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        half = 0.6 * self.size
        return (self.x - half, self.y - self.size), (self.x + half, self.y - self.size), (self.x, self.y)


Primitive = Box | Label | Curve | Tip
