"""Bar charts as inline SVG for the report: one group of bars for each subject, the longest bar across the chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "bar_chart"]

_WIDTH, _LEFT = 460.0, 128.0
_LETTER = 6.6
"""Width of a letter or digit, rather more than less."""
_BAR, _GAP, _TOP = 13.0, 11.0, 8.0


@dataclass(frozen=True)
class Bar:
    """One bar: its value, what is written at its end, and its colour (0 to 5), which the legend names."""

    value: float
    text: str
    colour: int = 0


def bar_chart(title: str, groups: Sequence[tuple[str, Sequence[Bar]]], legend: Sequence[str]) -> str | None:
    """A chart with its title and legend; None when there is no bar. Texts are escaped. `legend` names the colours in order."""
    most = max((bar.value for _, bars in groups for bar in bars), default=0.0)
    if most <= 0.0:
        return None
    across = _WIDTH - _LEFT - 12 - _LETTER * max(len(bar.text) for _, bars in groups for bar in bars)
    parts: list[str] = []
    top = _TOP
    for name, bars in groups:
        middle = top + _BAR * len(bars) / 2 + 4
        parts.append(f'<text x="{_LEFT - 8:g}" y="{middle:.1f}" text-anchor="end">{escape(name)}</text>')
        for bar in bars:
            wide = max(1.0, across * bar.value / most)
            place = f'x="{_LEFT:g}" y="{top + 1:.1f}" width="{wide:.1f}" height="{_BAR - 2:g}"'
            parts.append(
                f'<rect class="bar c{bar.colour}" {place} rx="2">'
                f"<title>{escape(name)}: {escape(bar.text)}</title></rect>"
                f'<text x="{_LEFT + wide + 6:.1f}" y="{top + _BAR - 3:.1f}">{escape(bar.text)}</text>'
            )
            top += _BAR
        top += _GAP
    keys = "".join(f'<span class="k{colour}">{escape(name)}</span>' for colour, name in enumerate(legend))
    return (
        f'<figure class="chart"><figcaption>{escape(title)}<span class="keys">{keys}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH:g} {top:g}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )
