"""Numbers, shapes and names as short text, and how wide text is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from PIL import ImageFont

__all__ = ["count", "fitted", "shape_change", "shape_text", "share", "width"]

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_WIDER = 1.17
"""Text is measured in Pillow's own font; the sans serif fonts of browsers are up to so much wider."""


def count(number: float | None) -> str:
    """`1.84 M`: three significant digits; `unknown` for None."""
    if number is None:
        return "unknown"
    for size, unit in _UNITS:
        if abs(number) >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.{2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0}f} {unit}"
    return f"{number:g}"


def share(before: float, after: float) -> str:
    """The change from `before` to `after` in percent: `−42 %`; `±0 %` for none."""
    if before == 0:
        return "new" if after else "±0 %"
    change = 100.0 * (after / before - 1.0)
    digits = 1 if abs(change) < 9.95 else 0
    text = f"{abs(change):.{digits}f}"
    if float(text) == 0.0:
        return "±0 %"
    return f"{'−' if change < 0 else '+'}{text} %"


def shape_text(shape: Sequence[int]) -> str:
    """`1×64×32×32`; a tensor without axes is a `scalar`."""
    return "×".join(str(size) for size in shape) or "scalar"


def shape_change(before: Sequence[int], after: Sequence[int]) -> str:
    """`1×(64→40)×32×32`, or both shapes whole when their ranks differ."""
    if len(before) != len(after):
        return f"{shape_text(before)} → {shape_text(after)}"
    return "×".join(str(b) if a == b else f"({b}→{a})" for b, a in zip(before, after, strict=True)) or "scalar"


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(100)


@lru_cache(maxsize=8192)
def width(text: str, size: float, bold: bool = False) -> float:
    """An upper estimate of the width of a line in pixels, whatever sans serif font shows it."""
    plain = text.replace("→", "->").replace("×", "x").replace("−", "-").replace("±", "+")
    return float(_font().getlength(plain)) * size / 100.0 * _WIDER * (1.07 if bold else 1.0)


def fitted(text: str, size: float, room: float, bold: bool = False) -> str:
    """The text, or its start and end around an ellipsis when it is wider than `room`."""
    if width(text, size, bold) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = kept // 2
        short = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
        if width(short, size, bold) <= room:
            return short
    return "…"
