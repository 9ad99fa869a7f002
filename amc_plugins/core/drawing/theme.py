"""Colours by role, for light and dark. Hues are those of Okabe and Ito (2008), told apart by people who are colour-blind."""

from __future__ import annotations

__all__ = ["DARK", "KINDS", "LIGHT", "STATUSES"]

LIGHT = {
    "page": "#ffffff",
    "card": "#fbfcfd",
    "border": "#c9d0d8",
    "text": "#1b2129",
    "muted": "#59636e",
    "wire": "#7d8894",
    "track": "#e4e8ec",
    "compute": "#0072b2",
    "weights": "#009e73",
    "merge": "#b4558a",
    "plain": "#8a94a0",
    "opaque": "#c84c00",
    "constant": "#8a6d00",
    "io": "#3d4752",
    "same": "#a9b2bc",
    "changed": "#d98e00",
    "replaced": "#009e73",
    "inserted": "#b4558a",
}
DARK = {
    "page": "#12161b",
    "card": "#1c222a",
    "border": "#3b4652",
    "text": "#e9edf1",
    "muted": "#a3aeb9",
    "wire": "#7f8c99",
    "track": "#303944",
    "compute": "#56b4e9",
    "weights": "#2fc49b",
    "merge": "#e08fbf",
    "plain": "#8d99a6",
    "opaque": "#ff8a4c",
    "constant": "#e2c044",
    "io": "#b9c4cf",
    "same": "#586471",
    "changed": "#f0b429",
    "replaced": "#2fc49b",
    "inserted": "#e08fbf",
}
KINDS = {
    "io": "input or output",
    "compute": "multiplies by weights (bar: MACs)",
    "weights": "has parameters, no MACs",
    "merge": "joins values",
    "plain": "no parameters, no MACs",
    "constant": "constant",
    "opaque": "opaque: MACs unknown",
}
"""What a layer is, by role, in the order of the legend."""
STATUSES = {
    "same": "unchanged",
    "changed": "changed",
    "replaced": "part of a replacement",
    "inserted": "inserted",
}
"""What became of a layer, by role, in the order of the legend."""
