"""What became of each layer between two networks, as a picture and a table say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amc_plugins.core.document import Document, Node, to_plain
from amc_plugins.core.drawing.matching import made_from
from amc_plugins.core.intrinsics import INTS
from amc_plugins.core.macs import Profile, Row

__all__ = ["Change", "changes_of", "removed_layers"]

Shape = tuple[int, ...]
_SHORT = {"in_channels": "in", "out_channels": "out", "in_features": "in", "out_features": "out", "num_features": "features"}
_LENGTH = 36


@dataclass(frozen=True)
class Change:
    """`status` is a role of `theme.STATUSES`. What was before is None for an inserted layer."""

    status: str
    words: str = ""
    """`in 64 → 40 · out 64 → 32`, `1 of 2 for conv1`, `` for nothing."""
    origin: str | None = None
    macs: int | None = None
    """Before: of the layer, or of the layer that a replacement stands for."""
    macs_now: int | None = None
    """Of the whole replacement, when it has several parts."""
    parameters: int = 0
    shapes: tuple[Shape, ...] = ()


def changes_of(before: Document, then: Profile, after: Document, now: Profile) -> dict[str, Change]:
    """By node name of `after`."""
    old_nodes = {node.name: node for node in before.nodes}
    old_rows, rows = {row.name: row for row in then.rows}, {row.name: row for row in now.rows}
    parts: dict[str, list[Node]] = {}
    for node in after.nodes:
        source = made_from(node.name, old_nodes, node.origin)
        if source is not None and source != node.name:
            parts.setdefault(source, []).append(node)
    found: dict[str, Change] = {}
    for node in after.nodes:
        source = made_from(node.name, old_nodes, node.origin)
        if source is None:
            found[node.name] = Change("inserted", "inserted")
        elif source == node.name:
            found[node.name] = _same_layer(old_nodes[source], old_rows[source], node, rows[node.name])
        else:
            chain = parts[source]
            words = f"{chain.index(node) + 1} of {len(chain)} for {source}" if len(chain) > 1 else f"stands for {source}"
            total = _sum(rows, chain)
            old = old_rows[source]
            found[node.name] = Change("replaced", words, source, old.macs, total, old.parameters, old.output_shapes)
    return found


def removed_layers(before: Document, after: Document) -> tuple[str, ...]:
    """Layers of `before` that no layer of `after` stands for."""
    known = {node.layer for node in before.nodes}
    kept = {made_from(node.layer, known, node.origin) for node in after.nodes}
    ints = {node.layer for node in before.nodes if node.op in INTS}
    return tuple(name for name in dict.fromkeys(node.layer for node in before.nodes) if name not in kept and name not in ints)


def _sum(rows: Mapping[str, Row], chain: list[Node]) -> int | None:
    costs = [rows[node.name].macs for node in chain]
    return None if None in costs else sum(cost or 0 for cost in costs)


def _same_layer(old: Node, old_row: Row, node: Node, row: Row) -> Change:
    words = []
    if old.op != node.op:
        words.append(f"{old_row.type} → {row.type}")
    words.extend(_differences(old.params, node.params))
    differs = bool(words) or old_row.macs != row.macs or old_row.parameters != row.parameters
    differs = differs or old_row.output_shapes != row.output_shapes
    return Change(
        "changed" if differs else "same",
        " · ".join(words),
        old.name,
        old_row.macs,
        row.macs,
        old_row.parameters,
        old_row.output_shapes,
    )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for name in dict.fromkeys((*old, *new)):
        a, b = to_plain(old.get(name)), to_plain(new.get(name))
        if a != b:
            short = _SHORT.get(name, name)
            text = f"{short} {_text(a)} → {_text(b)}"
            found.append(text if len(text) <= _LENGTH else f"{short} differs")
    return found


def _text(value: Any) -> str:
    if isinstance(value, list) and value and all(one == value[0] for one in value):
        return str(value[0])
    return "none" if value is None else str(value)
