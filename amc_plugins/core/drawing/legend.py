"""The head of a picture: title, totals, the legend of its colours, and what was removed."""

from __future__ import annotations

from amc_plugins.core.drawing.picture import Picture
from amc_plugins.core.drawing.primitives import Box, Label, Primitive
from amc_plugins.core.drawing.theme import KINDS, STATUSES
from amc_plugins.core.drawing.words import fitted, width

__all__ = ["header_of", "legend_of", "removed_line"]

_SIZE = 11.0


def legend_of(picture: Picture) -> list[tuple[str, str]]:
    """(role, words) of the colours that the picture uses."""
    if picture.compared:
        found = {card.change.status for card in picture.cards if card.change is not None}
        bar = ("compute", "bar: MACs now, grey before")
        return [*((role, words) for role, words in STATUSES.items() if role in found), bar]
    kinds = {card.kind for card in picture.cards}
    return [(role, words) for role, words in KINDS.items() if role in kinds]


def removed_line(picture: Picture, most: int = 12) -> str:
    """`removed: a, b and 3 more`, or nothing."""
    if not picture.removed:
        return ""
    more = len(picture.removed) - most
    return f"removed: {', '.join(picture.removed[:most])}" + (f" and {more} more" if more > 0 else "")


def header_of(picture: Picture, room: float, margin: float) -> tuple[list[Primitive], float]:
    """The shapes of a head of width `room`, and its height."""
    inside = room - 2 * margin
    shapes: list[Primitive] = [Label(margin, margin + 12.0, fitted(picture.title, 17.0, inside, bold=True), 17.0, bold=True)]
    y = margin + 32.0
    for line in _wrapped(picture.facts, inside):
        shapes.append(Label(margin, y, line, 12.0, "muted"))
        y += 17.0
    x, y = margin, y + 6.0
    for role, words in legend_of(picture):
        wide = 15.0 + width(words, _SIZE) + 18.0
        if x > margin and x + wide > room - margin:
            x, y = margin, y + 18.0
        shapes.append(Box(x, y - 9.0, 10.0, 10.0, 2.5, role))
        shapes.append(Label(x + 15.0, y, words, _SIZE, "muted"))
        x += wide
    if picture.removed:
        y += 18.0
        shapes.append(Label(margin, y, fitted(removed_line(picture), _SIZE, inside), _SIZE, "muted"))
    return shapes, y


def _wrapped(text: str, room: float) -> list[str]:
    lines: list[str] = []
    for piece in text.split(" · "):
        longer = f"{lines[-1]} · {piece}" if lines else piece
        if lines and width(longer, 12.0) <= room:
            lines[-1] = longer
        else:
            lines.append(fitted(piece, 12.0, room))
    return lines
