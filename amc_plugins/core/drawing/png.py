"""A scene as PNG, painted by Pillow with its own font: nothing of the system is needed."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from amc_plugins.core.drawing.primitives import Box, Curve, Label, Primitive, Tip
from amc_plugins.core.drawing.scene import Scene
from amc_plugins.core.drawing.theme import LIGHT

__all__ = ["write_png"]

_LARGEST = 36e6
"""Pixels of the picture as it is painted; larger ones lose smoothing first, then resolution."""
_STEPS = 14
_PLAIN = str.maketrans({"×": "x", "−": "-", "±": "+", "…": "..."})


def write_png(scene: Scene, path: Path) -> None:
    """Write the scene in the light theme, two pixels to a unit where the size allows."""
    area = scene.width * scene.height
    scale = min(2.0, math.sqrt(_LARGEST / area))
    smooth = 2 if area * (2 * scale) ** 2 <= _LARGEST else 1
    painter = _Painter(scene, scale * smooth)
    for shape in scene.header:
        painter.paint(shape)
    for wire in scene.wires:
        for shape in wire.shapes:
            painter.paint(shape)
    for card in scene.cards:
        for shape in card.shapes:
            painter.paint(shape)
    image = painter.image
    if smooth > 1:
        image = image.reduce(smooth)
    image.save(path, format="PNG")


@lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class _Painter:
    def __init__(self, scene: Scene, scale: float) -> None:
        self.scale = scale
        self.image = Image.new("RGB", (round(scene.width * scale), round(scene.height * scale)), LIGHT["page"])
        self.draw = ImageDraw.Draw(self.image)

    def paint(self, shape: Primitive) -> None:
        match shape:
            case Box():
                self._box(shape)
            case Label():
                self._label(shape)
            case Curve():
                self._curve(shape)
            case Tip():
                self.draw.polygon([self._at(*point) for point in shape.points], fill=LIGHT[shape.fill])

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return x * self.scale, y * self.scale

    def _thick(self, thickness: float) -> int:
        return max(1, round(thickness * self.scale))

    def _box(self, shape: Box) -> None:
        corners = [self._at(shape.x, shape.y), self._at(shape.x + shape.width, shape.y + shape.height)]
        radius = min(shape.radius, shape.width / 2, shape.height / 2) * self.scale
        stroke = None if shape.stroke is None else LIGHT[shape.stroke]
        thick = self._thick(shape.thickness) if stroke else 0
        self.draw.rounded_rectangle(
            corners, radius, fill=LIGHT[shape.fill], outline=None if shape.dash else stroke, width=thick
        )
        if shape.dash and stroke is not None:
            x, y, right, foot = shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
            outline = [(x, y), (right, y), (right, foot), (x, foot), (x, y)]
            self._dashed(outline, stroke, thick, 5.0, 3.0)

    def _label(self, shape: Label) -> None:
        font, colour = _font(shape.size * self.scale), LIGHT[shape.fill]
        weight = round(0.03 * shape.size * self.scale) if shape.bold else 0
        pieces = shape.text.translate(_PLAIN).split("→")  # Pillow's font has no arrow
        arrow, pad = 0.8 * shape.size * self.scale, 0.12 * shape.size * self.scale
        whole = sum(font.getlength(one) for one in pieces) + (len(pieces) - 1) * (arrow + 2 * pad)
        x, y = self._at(shape.x, shape.y)
        x -= {"start": 0.0, "middle": whole / 2, "end": whole}[shape.anchor]
        for index, piece in enumerate(pieces):
            if index:
                self._arrow(x + pad, y - 0.32 * shape.size * self.scale, arrow, colour)
                x += arrow + 2 * pad
            self.draw.text((x, y), piece, fill=colour, font=font, anchor="ls", stroke_width=weight, stroke_fill=colour)
            x += font.getlength(piece)

    def _arrow(self, x: float, y: float, length: float, colour: str) -> None:
        thick, tip = max(1, round(0.1 * length)), 0.3 * length
        self.draw.line([(x, y), (x + length, y)], fill=colour, width=thick)
        self.draw.line([(x + length - tip, y - tip), (x + length, y), (x + length - tip, y + tip)], fill=colour, width=thick)

    def _curve(self, shape: Curve) -> None:
        points = _flat(shape.steps)
        if shape.dash:
            self._dashed(points, LIGHT[shape.stroke], self._thick(shape.thickness), 3.0, 3.0)
        else:
            self.draw.line(
                [self._at(*one) for one in points], fill=LIGHT[shape.stroke], width=self._thick(shape.thickness), joint="curve"
            )

    def _dashed(self, points: list[tuple[float, float]], colour: str, thick: int, on: float, off: float) -> None:
        walked = 0.0
        for (ax, ay), (bx, by) in pairwise(points):
            length = math.hypot(bx - ax, by - ay)
            start = -(walked % (on + off))
            while start < length:
                a, b = max(0.0, start), min(length, start + on)
                if b > a:
                    ends = [self._at(ax + (bx - ax) * t / length, ay + (by - ay) * t / length) for t in (a, b)]
                    self.draw.line(ends, fill=colour, width=thick)
                start += on + off
            walked += length


def _flat(steps: tuple[tuple[float, ...], ...]) -> list[tuple[float, float]]:
    """Points along a curve."""
    points: list[tuple[float, float]] = []
    for step in steps:
        if len(step) == 2:
            points.append((step[0], step[1]))
            continue
        (x0, y0), (x1, y1, x2, y2, x3, y3) = points[-1], step
        for index in range(1, _STEPS + 1):
            t = index / _STEPS
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            points.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return points
