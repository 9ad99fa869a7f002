"""A recipe written back as TOML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["toml_key", "toml_text", "toml_value"]


def toml_text(data: Mapping[str, Any]) -> str:
    """JSON data as TOML: plain values first, then tables. None, which TOML cannot say, and empty tables are left out."""
    return "\n".join(_table(data, ())).strip() + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {name: value for name, value in data.items() if value is not None and not isinstance(value, Mapping)}
    lines = [f"{toml_key(name)} = {toml_value(value)}" for name, value in plain.items()]
    if lines and path:
        lines.insert(0, f"[{'.'.join(map(toml_key, path))}]")
    for name, value in data.items():
        if isinstance(value, Mapping):
            inner = _table(value, (*path, name))
            lines.extend(["", *inner] if inner else [])
    return lines


def toml_key(name: str) -> str:
    """One part of a key or a table's name, quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def toml_value(value: Any) -> str:
    """JSON data on one line. None inside lists and mappings is left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(one) for one in value if one is not None)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml_key(name)} = {toml_value(one)}" for name, one in value.items() if one is not None) + "}"
    return repr(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
