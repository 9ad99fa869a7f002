"""A scene as SVG. Every colour is an attribute with the light value, and a class that a style sheet turns dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape, quoteattr

from amc_plugins.core.drawing.cards import card_tooltip
from amc_plugins.core.drawing.picture import Picture
from amc_plugins.core.drawing.primitives import Box, Curve, Label, Primitive, Tip
from amc_plugins.core.drawing.scene import Scene
from amc_plugins.core.drawing.theme import DARK, LIGHT

__all__ = ["svg_file", "svg_inline", "theme_rules"]

_FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', 'Segoe UI', Roboto, sans-serif"


def svg_file(picture: Picture, scene: Scene) -> str:
    """A file of its own: follows the reader's light or dark setting, and shows what a card is when the pointer rests on it."""
    dark = theme_rules(DARK)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{scene.width}" height="{scene.height}" '
        f'viewBox="0 0 {scene.width} {scene.height}" role="img" font-family="{_FONT}">',
        f"<title>{escape(_clean(picture.title))}</title>",
        f"<desc>{escape(_clean(picture.facts))}</desc>",
        f"<style>@media (prefers-color-scheme: dark) {{ {dark} }}</style>",
        f'<rect width="100%" height="100%" class="f-page" fill="{LIGHT["page"]}"/>',
        *_body(picture, scene, tooltips=True),
        "</svg>\n",
    ]
    return "\n".join(lines)


def svg_inline(picture: Picture, scene: Scene) -> str:
    """For a page that has `theme_rules` and its own tooltips; cards and wires carry their numbers."""
    lines = [
        f'<svg viewBox="0 0 {scene.width} {scene.height}" role="group" aria-label={quoteattr(_clean(picture.title))}>',
        *_body(picture, scene, tooltips=False),
        "</svg>",
    ]
    return "\n".join(lines)


def theme_rules(colours: Mapping[str, str], scope: str = "") -> str:
    """CSS for the classes of shapes, each selector after `scope`."""
    fills = "".join(f"{scope}.f-{role}{{fill:{colour}}}" for role, colour in colours.items())
    return fills + "".join(f"{scope}.s-{role}{{stroke:{colour}}}" for role, colour in colours.items())


def _body(picture: Picture, scene: Scene, *, tooltips: bool) -> Iterable[str]:
    if scene.header:
        yield "<g>" + "".join(map(_shape, scene.header)) + "</g>"
    for wire in scene.wires:
        name = f"<title>{escape(_clean(picture.wires[wire.index].value))}</title>" if tooltips else ""
        yield f'<g class="wire" data-wire="{wire.index}">{name}{"".join(map(_shape, wire.shapes))}</g>'
    for card in scene.cards:
        shown = picture.cards[card.index]
        name = f"<title>{escape(_clean(card_tooltip(shown)))}</title>" if tooltips else ""
        yield f'<g class="card" data-card="{card.index}">{name}{"".join(map(_shape, card.shapes))}</g>'


def _shape(shape: Primitive) -> str:
    match shape:
        case Box():
            stroke = ""
            if shape.stroke is not None:
                dash = ' stroke-dasharray="5 3"' if shape.dash else ""
                stroke = f' stroke="{LIGHT[shape.stroke]}" stroke-width="{_n(shape.thickness)}"{dash}'
            return (
                f'<rect x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}" '
                f'rx="{_n(shape.radius)}" class="f-{shape.fill}{f" s-{shape.stroke}" if shape.stroke else ""}" '
                f'fill="{LIGHT[shape.fill]}"{stroke}/>'
            )
        case Label():
            weight = ' font-weight="600"' if shape.bold else ""
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            return (
                f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}"{weight}{anchor} '
                f'class="f-{shape.fill}" fill="{LIGHT[shape.fill]}">{escape(_clean(shape.text))}</text>'
            )
        case Curve():
            dash = ' stroke-dasharray="3 3"' if shape.dash else ""
            (x, y), *steps = shape.steps
            path = f"M{_n(x)} {_n(y)}" + "".join(("L" if len(one) == 2 else "C") + " ".join(map(_n, one)) for one in steps)
            return (
                f'<path d="{path}" fill="none" class="s-{shape.stroke}" stroke="{LIGHT[shape.stroke]}" '
                f'stroke-width="{_n(shape.thickness)}"{dash}/>'
            )
        case Tip():
            points = "L".join(f"{_n(x)} {_n(y)}" for x, y in shape.points)
            return f'<path d="M{points}Z" class="f-{shape.fill}" fill="{LIGHT[shape.fill]}"/>'


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def _clean(text: str) -> str:
    """Without the control characters that XML has no way to write."""
    return "".join(one for one in text if one in "\n\t" or one.isprintable())
