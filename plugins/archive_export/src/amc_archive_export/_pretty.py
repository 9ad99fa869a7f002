"""Indented JSON that people can read: what fits on a line stays on one."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["pretty"]

WIDTH = 120


def pretty(value: Any, indent: int) -> str:
    """The same data as `json.dumps`, with objects and lists of up to `WIDTH` characters on one line each."""
    return _render(value, indent, 0) + "\n"


def _render(value: Any, indent: int, level: int) -> str:
    if not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, dict):
        left, right = "{", "}"
        items = [json.dumps(key, ensure_ascii=False) + ": " + _render(item, indent, level + 1) for key, item in value.items()]
    else:
        left, right = "[", "]"
        items = [_render(item, indent, level + 1) for item in value]
    room = WIDTH - indent * level - 2 * len(items)
    if sum(map(len, items)) <= room and not any("\n" in item for item in items):  # JSON escapes the line breaks of strings
        return left + ", ".join(items) + right
    start, end = "\n" + " " * (indent * (level + 1)), "\n" + " " * (indent * level)
    return left + ",".join(start + item for item in items) + end + right
