"""A settings model as rows for people: name, type, default, bounds, meaning. Read from its JSON Schema: nothing is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["COLUMNS", "rows"]

COLUMNS = ("setting", "type", "default", "bounds", "meaning")
_TYPES = {"integer": "int", "number": "float", "string": "str", "boolean": "bool", "null": "none", "object": "dict"}
_LIMITS = (
    ("exclusiveMinimum", "> {}"),
    ("minimum", ">= {}"),
    ("exclusiveMaximum", "< {}"),
    ("maximum", "<= {}"),
    ("multipleOf", "multiple of {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("pattern", "matches {}"),
)

Schema = Mapping[str, Any]


def rows(schema: Schema, not_implemented: frozenset[str] = frozenset()) -> list[tuple[str, str, str, str, str]]:
    """One row a field; the fields of a nested model follow it as `outer.inner`."""
    return list(_rows(schema, schema.get("$defs", {}), "", not_implemented, ()))


def _rows(
    schema: Schema, defs: Schema, prefix: str, not_implemented: frozenset[str], seen: tuple[str, ...]
) -> Iterator[tuple[str, str, str, str, str]]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        meaning = " ".join(str(field.get("description", "")).split())
        if prefix + name in not_implemented:
            meaning = f"{meaning} (not implemented yet: only the default)".lstrip()
        default = "required" if name in required else json.dumps(field.get("default"), ensure_ascii=False)
        yield (prefix + name, _type(field, defs), default, ", ".join(dict.fromkeys(_bounds(field, defs))), meaning)
        for reference in _references(field):
            nested = defs.get(reference, {})
            if "properties" in nested and reference not in seen:
                yield from _rows(nested, defs, f"{prefix}{name}.", not_implemented, (*seen, reference))


def _type(field: Schema, defs: Schema) -> str:
    if "$ref" in field:
        name = _name(field["$ref"])
        return name if "properties" in defs.get(name, {}) else _type(defs.get(name, {}), defs)
    if "const" in field:
        return json.dumps(field["const"])
    if "enum" in field:
        return " | ".join(json.dumps(value) for value in field["enum"])
    if (choices := field.get("anyOf") or field.get("oneOf") or field.get("allOf")) is not None:
        return " | ".join(dict.fromkeys(_type(choice, defs) for choice in choices))
    kind = str(field.get("type", "any"))
    if kind == "array":
        if "prefixItems" in field:
            return f"[{', '.join(_type(item, defs) for item in field['prefixItems'])}]"
        return f"list[{_type(field.get('items', {}), defs)}]"
    if kind == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return f"dict[str, {_type(field['additionalProperties'], defs)}]"
    if field.get("format") in ("path", "file-path", "directory-path"):
        return "path"
    return _TYPES.get(kind, kind)


def _bounds(field: Schema, defs: Schema) -> Iterator[str]:
    for key, words in _LIMITS:
        if key in field and not (key.endswith("Items") and "prefixItems" in field):  # the type says how many
            value = f"{field[key]:g}" if isinstance(field[key], float) else field[key]
            yield "not empty" if value == 1 and key in ("minItems", "minLength") else words.format(value)
    if "$ref" in field and "properties" not in (target := defs.get(_name(field["$ref"]), {})):
        yield from _bounds(target, defs)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for choice in field.get(key, ()):
            yield from _bounds(choice, defs)
    if isinstance(field.get("items"), Mapping):
        yield from (f"each {bound.removeprefix('each ')}" for bound in _bounds(field["items"], defs))


def _references(field: Schema) -> Iterator[str]:
    """Names of the definitions that a field refers to, at any depth outside other definitions."""
    for key, value in field.items():
        if key == "$ref":
            yield _name(value)
        elif isinstance(value, Mapping):
            yield from _references(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, Mapping):
                    yield from _references(item)


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
