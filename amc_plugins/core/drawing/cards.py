"""The faces of cards: a layer's name, type, output shape, MACs and parameters, what changed, and its share of the MACs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amc_plugins.core.drawing.picture import Card, Picture, shapes_line
from amc_plugins.core.drawing.primitives import Box, Label, Primitive
from amc_plugins.core.drawing.words import count, fitted, shape_change, share, width

__all__ = ["CardFace", "card_tooltip", "faces_of"]

_NARROW, _WIDE = 176.0, 350.0
_LEFT, _RIGHT = 15.0, 10.0
_NAME, _LINE, _STEP = 12.0, 11.0, 15.0
_BAR = 3.0
_SEPARATOR = " · "


@dataclass(frozen=True)
class CardFace:
    """A card's size, and its shapes relative to its upper left corner."""

    width: float
    height: float
    shapes: tuple[Primitive, ...]


def faces_of(picture: Picture) -> list[CardFace]:
    """The face of every card; layers all have the same width."""
    full = [card for card in picture.cards if card.kind not in ("io", "constant")]
    wanted = max((_wanted(card) for card in full), default=_NARROW)
    room = min(_WIDE, max(_NARROW, wanted))
    most = max((max(card.macs or 0, _macs_before(card)) for card in full), default=0)
    return [
        _pill(card, picture.compared) if card.kind in ("io", "constant") else _face(card, room, most, picture.compared)
        for card in picture.cards
    ]


def _macs_before(card: Card) -> int:
    return (card.change.macs or 0) if card.change is not None else 0


def _wanted(card: Card) -> float:
    head = width(card.name, _NAME, bold=True) + 12.0 + width(card.type, _LINE)
    return _LEFT + _RIGHT + max(head, width(_SEPARATOR.join(_facts(card)), _LINE))


def _facts(card: Card) -> list[str]:
    """What the lines below the name say, in pieces that stay together."""
    change = card.change
    shapes = shapes_line(card.shapes)
    if change is None or change.status in ("same", "inserted"):
        return [shapes, f"{count(card.macs)} MACs", f"{count(card.parameters)} params"]
    if change.status == "replaced":
        facts = [shapes, f"{count(card.macs)} MACs", f"{count(card.parameters)} params", change.words]
        if change.words.startswith(("1 of", "stands")) and change.macs is not None and change.macs_now is not None:
            facts.append(f"in all {_moved(change.macs, change.macs_now)} MACs")
        return facts
    if change.shapes and change.shapes != card.shapes and len(change.shapes) == len(card.shapes) == 1:
        shapes = shape_change(change.shapes[0], card.shapes[0])
    macs = f"{count(card.macs)} MACs"
    if change.macs != card.macs and change.macs is not None and card.macs is not None:
        macs = f"{_moved(change.macs, card.macs)} MACs"
    parameters = f"{count(card.parameters)} params"
    if change.parameters != card.parameters:
        parameters = f"{count(change.parameters)} → {parameters}"
    return [shapes, macs, parameters, *(change.words.split(_SEPARATOR) if change.words else ())]


def _moved(before: int, after: int) -> str:
    return f"{count(before)} → {count(after)} ({share(before, after)})"


def _lines(facts: Sequence[str], room: float) -> list[str]:
    lines: list[str] = []
    for fact in facts:
        if not fact:
            continue
        longer = f"{lines[-1]}{_SEPARATOR}{fact}" if lines else fact
        if lines and width(longer, _LINE) <= room:
            lines[-1] = longer
        else:
            lines.append(fitted(fact, _LINE, room))
    return lines


def _face(card: Card, whole: float, most: int, compared: bool) -> CardFace:
    status = card.change.status if compared and card.change is not None else None
    room = whole - _LEFT - _RIGHT
    lines = _lines(_facts(card), room)
    bar = bool(most) and bool(card.macs or _macs_before(card))
    height = 22.0 + _STEP * len(lines) + 6.0 + (4.0 if bar else 0.0)
    border, thickness = ("border", 1.0) if status in (None, "same") else (status or "border", 1.8)
    shapes: list[Primitive] = [
        Box(0.0, 0.0, whole, height, 6.0, "card", border, thickness, dash=status == "inserted"),
        Box(5.0, 5.0, 4.0, height - 10.0, 2.0, status or card.kind),
    ]
    kind = fitted(card.type, _LINE, 0.6 * room)
    free = room - width(kind, _LINE) - 12.0
    shapes.append(Label(_LEFT, 17.0, fitted(card.name, _NAME, free, bold=True), _NAME, bold=True))
    shapes.append(Label(whole - _RIGHT, 17.0, kind, _LINE, card.kind if card.kind == "opaque" else "muted", anchor="end"))
    ink = "text" if status in ("changed", "replaced") else "muted"
    shapes.extend(Label(_LEFT, 33.0 + _STEP * row, line, _LINE, ink) for row, line in enumerate(lines))
    if bar:
        y = height - 8.0
        shapes.append(Box(_LEFT, y, room, _BAR, 1.5, "track"))
        before = _macs_before(card) if status == "changed" else 0
        if before:
            shapes.append(Box(_LEFT, y, max(1.0, room * before / most), _BAR, 1.5, "same"))
        if card.macs:
            shapes.append(Box(_LEFT, y, max(1.0, room * card.macs / most), _BAR, 1.5, "compute"))
    return CardFace(round(whole, 1), height, tuple(shapes))


def _pill(card: Card, compared: bool) -> CardFace:
    """Inputs, outputs and constants: one line."""
    size = 10.5
    constant = card.kind == "constant"
    label = card.name if constant else f"{card.type} {card.name}" if not card.name.startswith(card.type) else card.name
    changed = compared and card.change is not None and card.change.status != "same"
    shape = shapes_line(card.shapes)
    if changed and card.change is not None and len(card.change.shapes) == len(card.shapes) == 1:
        shape = shape_change(card.change.shapes[0], card.shapes[0])
    extra = f"{_SEPARATOR}{count(card.macs)} MACs{_SEPARATOR}{count(card.parameters)} params" if constant else ""
    name = fitted(label, size, 150.0, bold=True)
    rest = f"{shape}{extra}"
    offset = width(name, size, bold=True) + 8.0
    whole = round(offset + width(rest, size) + 22.0, 1) if rest else round(offset + 14.0, 1)
    stroke = card.change.status if changed and card.change is not None else card.kind
    shapes: list[Primitive] = [
        Box(0.0, 0.0, whole, 24.0, 5.0 if constant else 12.0, "card", stroke, 1.8 if changed else 1.2),
        Label(11.0, 16.0, name, size, bold=True),
    ]
    if rest:
        shapes.append(Label(11.0 + offset, 16.0, rest, size, "muted"))
    return CardFace(whole, 24.0, tuple(shapes))


def card_tooltip(card: Card) -> str:
    """Everything about a card as lines of text."""
    lines = [f"{card.name} ({card.type})"]
    if card.shapes:
        lines.append(f"output: {shapes_line(card.shapes)}")
    if card.kind != "io":
        macs = "unknown" if card.macs is None else f"{card.macs:,}"
        lines.append(f"MACs: {macs}, parameters: {card.parameters:,}")
    if card.change is not None and card.change.status != "same":
        lines.append(_SEPARATOR.join(fact for fact in (card.change.status, card.change.words) if fact))
    lines.extend(f"{name}: {value}" for name, value in card.details)
    if card.source:
        lines.append(f"source: {card.source}")
    return "\n".join(lines)
