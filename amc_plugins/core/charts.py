"""Line charts as inline SVG for the report. Colours come from the page's style sheet, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Series", "line_chart", "ticks"]

_WIDTH, _HEIGHT = 460.0, 236.0
_LEFT, _RIGHT, _TOP, _FOOT = 52.0, 12.0, 10.0, 38.0
_INSET = 24.0
"""Between the axis and the first label's place."""
_NO_NAME = 14.0
"""How much lower a chart is whose horizontal axis has no name."""
_LETTER = 6.2
"""Width of a letter of a label, about."""
_MOST_MARKS = 60


@dataclass(frozen=True)
class Series:
    """One line. `points` are (x, y); those that are not finite are left out. `line=False` shows the points only."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    line: bool = True
    steps: bool = False
    """The value stays until the next point."""

    @property
    def finite(self) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in self.points if math.isfinite(x) and math.isfinite(y)]


def line_chart(
    title: str, series: Sequence[Series], *, x_name: str, y_name: str = "", percent: bool = False, labels: Sequence[str] = ()
) -> str | None:
    """A chart with its title and legend; None when nothing can be shown. Texts are escaped. `labels` name x = 0, 1, ..."""
    shown = [one for one in series if one.finite]
    if not shown:
        return None
    xs = [x for one in shown for x, _ in one.finite]
    ys = [y for one in shown for _, y in one.finite]
    x_low, x_high = (0.0, max(1.0, len(labels) - 1.0)) if labels else _range(min(xs), max(xs), 0.0)
    y_low, y_high = _range(min(ys), max(ys), 0.08)
    if percent:  # not closer than 5 points, so that noise does not look like a change
        y_high = min(max(y_high, y_low + 0.05), max(1.0, *ys))
        y_low = min(y_low, y_high - 0.05)
    y_ticks = ticks(y_low, y_high, 5)
    x_ticks = _labelled(labels) if labels else ticks(x_low, x_high, 7, whole=True)

    def place(x: float, y: float) -> tuple[float, float]:
        inset = _INSET if labels else 0.0
        across = _WIDTH - _LEFT - _RIGHT - 2 * inset
        return _LEFT + inset + (x - x_low) / (x_high - x_low) * across, _TOP + (y_high - y) / (y_high - y_low) * (
            _HEIGHT - _TOP - _FOOT
        )

    height = _HEIGHT if x_name else _HEIGHT - _NO_NAME
    parts: list[str] = []
    for y in y_ticks:
        _, at = place(x_low, y)
        text = f"{100 * y:g} %" if percent else _number(y)
        parts.append(f'<path class="grid" d="M{_LEFT:g} {at:.1f}H{_WIDTH - _RIGHT:g}"/>')
        parts.append(f'<text x="{_LEFT - 7:g}" y="{at + 3.8:.1f}" text-anchor="end">{text}</text>')
    for x in x_ticks:
        at, _ = place(x, y_low)
        name = escape(labels[int(x)]) if labels else _number(x)
        parts.append(f'<text x="{at:.1f}" y="{_HEIGHT - _FOOT + 16:g}" text-anchor="middle">{name}</text>')
    parts.append(f'<text class="axis" x="{_WIDTH - _RIGHT:g}" y="{_HEIGHT - 6:g}" text-anchor="end">{escape(x_name)}</text>')
    for one in shown:
        parts.append(_drawn(one, place, percent))
    legend = "".join(f'<span class="k{one.colour}">{escape(one.name)}</span>' for one in shown)
    unit = f" <small>{escape(y_name)}</small>" if y_name else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}{unit}<span class="keys">{legend}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _labelled(labels: Sequence[str]) -> list[float]:
    """The places that are labelled: as many as fit side by side, the first among them."""
    apart = (_WIDTH - _LEFT - _RIGHT - 2 * _INSET) / max(1, len(labels) - 1)
    every = math.ceil(_LETTER * (max(map(len, labels)) + 1) / apart)
    return [float(index) for index in range(0, len(labels), every)]


def _drawn(one: Series, place: object, percent: bool) -> str:
    assert callable(place)
    points = [place(x, y) for x, y in one.finite]
    parts = []
    if one.line and len(points) > 1:
        (x, y), *rest = points
        path = f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" if one.steps else f"L{x:.1f} {y:.1f}" for x, y in rest)
        parts.append(f'<path class="line c{one.colour}" d="{path}"/>')
    if not one.line or (len(points) <= _MOST_MARKS and not one.steps):
        for (x, y), (at, value) in zip(points, one.finite, strict=True):
            said = f"{100 * value:.2f} %" if percent else f"{value:.6g}"
            radius = 2.2 if not one.line else 2.8
            parts.append(
                f'<circle class="dot c{one.colour}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">'
                f"<title>{escape(one.name)}, {at:g}: {said}</title></circle>"
            )
    return "".join(parts)


def _range(low: float, high: float, margin: float) -> tuple[float, float]:
    if high == low:
        pad = abs(high) * 0.1 or 0.5
        return low - pad, high + pad
    pad = (high - low) * margin
    return low - pad, high + pad


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Round numbers between `low` and `high`, at most about `most` of them."""
    step = 10.0 ** math.floor(math.log10(max((high - low) / most, 1e-300)))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if (high - low) / (step * factor) <= most:
            step *= factor
            break
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    return [(first + index) * step for index in range(count + 1)]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace(".0e", "e")
    return f"{value:.4g}"
