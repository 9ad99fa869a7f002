"""A picture as an interactive page, and as a part of the report: inline SVG, and data for the script of the templates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from amc_plugins.core.drawing.legend import legend_of, removed_line
from amc_plugins.core.drawing.picture import Card, Picture, shapes_line
from amc_plugins.core.drawing.scene import Scene, scene_of
from amc_plugins.core.drawing.svg import svg_inline, theme_rules
from amc_plugins.core.drawing.theme import DARK, LIGHT
from amc_plugins.core.drawing.words import share

__all__ = ["Graph", "graph_of", "graph_rules", "page_of", "templates"]


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The templates of this package; whatever is put into one is escaped."""
    return Environment(
        loader=PackageLoader("amc_plugins.core", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(frozen=True)
class Graph:
    """What `graph.html.j2` shows; in `svg` every text is escaped. `gentle` leaves wheel and vertical swipes to the page."""

    svg: str
    data: dict[str, Any]
    legend: list[tuple[str, str]]
    removed: str
    gentle: bool
    height: str


def graph_of(picture: Picture, *, gentle: bool = False, height: str = "") -> Graph:
    """A picture without its head, ready for a page. `height` is a CSS length."""
    scene = scene_of(picture, head=False)
    return Graph(svg_inline(picture, scene), _data(picture, scene), legend_of(picture), removed_line(picture), gentle, height)


def graph_rules() -> str:
    """The colours of drawings as CSS, light and dark."""
    return theme_rules(LIGHT) + theme_rules(DARK, ':root[data-theme="dark"] ')


def page_of(picture: Picture) -> str:
    """One self-contained page: no network, no other file."""
    page = templates().get_template("drawing.html.j2")
    return page.render(title=picture.title, facts=picture.facts, rules=graph_rules(), g=graph_of(picture)) + "\n"


def _data(picture: Picture, scene: Scene) -> dict[str, Any]:
    entering: dict[int, dict[int, int]] = {}  # card -> wire -> the first input that it goes into
    leaving: dict[int, list[int]] = {}
    for number, wire in enumerate(picture.wires):
        leaving.setdefault(wire.start, []).append(number)
        for end, port in sorted(wire.ends):
            entering.setdefault(end, {}).setdefault(number, port)
    total = sum(card.macs or 0 for card in picture.cards)
    cards = [
        {
            "name": card.name,
            "about": f"{card.type} · {card.op}" if card.op else card.type,
            "rows": _rows(card, total),
            "box": [placed.x, placed.y, placed.width, placed.height],
            "from": [wire for _, wire in sorted((port, wire) for wire, port in entering.get(placed.index, {}).items())],
            "to": leaving.get(placed.index, []),
        }
        for card, placed in zip(picture.cards, scene.cards, strict=True)
    ]
    wires = [[wire.start, [end for end, _ in wire.ends], wire.value] for wire in picture.wires]
    return {"width": scene.width, "height": scene.height, "cards": cards, "wires": wires}


def _rows(card: Card, total: int) -> list[tuple[str, str]]:
    """What the panel says of a card."""
    rows: list[tuple[str, str]] = []
    change = card.change
    if change is not None and change.status != "same":
        rows.append((change.status, change.words if change.words not in ("", change.status) else "since the original"))
    if card.shapes:
        rows.append(("output" if card.kind != "io" else "shape", shapes_line(card.shapes)))
    if change is not None and change.shapes and change.status == "changed" and change.shapes != card.shapes:
        rows.append(("output before", shapes_line(change.shapes)))
    if card.kind != "io":
        macs = "unknown" if card.macs is None else f"{card.macs:,}"
        if card.macs and total:
            macs += f" ({100.0 * card.macs / total:.1f} % of the network)"
        rows.append(("MACs", macs))
        if change is not None and change.macs is not None and change.macs != card.macs:
            now = change.macs_now if change.status == "replaced" else card.macs
            moved = (
                "" if now is None or not change.macs else f" ({share(change.macs, now)}{' in all' if now != card.macs else ''})"
            )
            rows.append(("MACs before", f"{change.macs:,}{moved}"))
        rows.append(("parameters", f"{card.parameters:,}"))
        if change is not None and change.status == "changed" and change.parameters != card.parameters:
            rows.append(("parameters before", f"{change.parameters:,}"))
    if card.source:
        rows.append(("source", card.source))
    rows.extend(card.details)
    return rows
