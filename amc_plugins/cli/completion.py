"""Completion in the shell: names of plugins from metadata alone, settings from the declaration of the one plugin they are of.

Bash splits a word at `=` and `:`; `whole_words` puts `scheme=au` together again before the command line is read, and hands back
the part after the `=`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import typer

from amc_plugins.core.discovery import discover
from amc_plugins.core.errors import AmcError

__all__ = ["names", "recipe_settings", "settings", "to_disable", "tuner_settings", "whole_words"]

_BREAKS = "=:"


def names(kind: str) -> Callable[[str], list[str]]:
    """Completion of the names of one kind of plugin; reads metadata alone."""

    def complete(incomplete: str) -> list[str]:
        return sorted({record.name for record in discover(kind) if record.name.startswith(incomplete)})

    return complete


def to_disable(incomplete: str) -> list[str]:
    """Completion of `--disable NAME`: plugins and distributions; reads metadata alone."""
    found = {name for record in discover(disabled=()) for name in (record.name, record.distribution)}
    return sorted(name for name in found if name.startswith(incomplete))


def settings(context: typer.Context, incomplete: str) -> list[str]:
    """Completion of `--set KEY=VALUE`, for the plugin that the line names: keys, then the values of a choice or a switch."""
    given = _given(context)
    for parameter, kind in (("method", "compressors"), ("compressor", "compressors"), ("trainer", "trainers")):
        if given.get(parameter):
            return _fitting(_choices_of(kind, given[parameter]), incomplete)
    if given.get("exporter"):
        return _fitting(_choices_of("exporters", given["exporter"]), incomplete)
    kinds = [record.kind for record in discover() if record.name == given.get("name")]  # `amc plugins check NAME`
    return _fitting(_choices_of(kinds[0], given["name"]), incomplete) if kinds else []


def tuner_settings(context: typer.Context, incomplete: str) -> list[str]:
    """Completion of `--tuner-set KEY=VALUE`."""
    name = _given(context).get("tuner")
    return _fitting(_choices_of("tuners", name), incomplete) if name else []


def recipe_settings(context: typer.Context, incomplete: str) -> list[str]:
    """Completion of `--set PATH=VALUE` of a recipe: its own settings, and those of the plugins that the file names.

    For `amc recipe init`, which has no file yet: of the plugins that its options name.
    """
    import tomllib

    from amc_plugins.core.recipe import Recipe

    given = _given(context)
    path = Path(given.get("recipe") or "")
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):  # nothing to say here: the command itself will
        plain = {}
    found = dict(_choices(Recipe.model_json_schema(), dotted=True))
    for section, option in (("compress", "compressor"), ("tune", "tuner"), ("train", "trainer")):
        body = plain.get(section)
        method = body.get("method") if isinstance(body, dict) else given.get(option)
        if isinstance(method, str):
            found |= {f"{section}.settings.{key}": one for key, one in _choices_of(f"{option}s", method).items()}
    return _fitting(found, incomplete)


def _given(context: typer.Context) -> dict[str, Any]:
    """The values on the line so far. Where it ends with an option that waits for its value, the parser gave up before it gave
    the arguments to their names.
    """
    arguments = [one.name for one in context.command.params if one.param_type_name == "argument" and one.name is not None]
    return {**dict(zip(arguments, context.args, strict=False)), **{k: v for k, v in context.params.items() if v is not None}}


@contextmanager
def whole_words(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Inside, the line that bash wants completed has its words as they were typed, and what is printed is what bash lacks."""
    if not environment.get("_AMC_COMPLETE", "").endswith("_bash") or "COMP_WORDS" not in environment:
        yield
        return
    words, cursor = _rejoined(environment["COMP_WORDS"].split(), int(environment.get("COMP_CWORD", 0)))
    environment["COMP_WORDS"], environment["COMP_CWORD"] = " ".join(words), str(cursor)
    typed = words[cursor] if cursor < len(words) else ""
    known = 1 + max(typed.rfind(one) for one in _BREAKS)
    answer = StringIO()
    try:
        with redirect_stdout(answer):
            yield
    finally:
        sys.stdout.writelines(line[known:] for line in answer.getvalue().splitlines(keepends=True))


def _rejoined(words: list[str], cursor: int) -> tuple[list[str], int]:
    joined: list[str] = []
    place = 0
    glued = False
    for index, word in enumerate(words):
        separator = not word.strip(_BREAKS)
        if joined and (separator or glued):
            joined[-1] += word
        else:
            joined.append(word)
        glued = separator
        if index == cursor:
            place = len(joined) - 1
    return joined, place if cursor < len(words) else len(joined)


def _fitting(choices: Mapping[str, list[str]], incomplete: str) -> list[str]:
    """Keys that go on from what is typed; one that is left comes with its values, so that no space is put after the `=`."""
    key, equals, value = incomplete.partition("=")
    if equals:
        found = [f"{key}={one}" for one in choices.get(key, ()) if one.startswith(value)]
    else:
        keys = [one for one in choices if one.startswith(incomplete)]
        only = keys[0] if len(keys) == 1 else None
        found = (
            [f"{only}={one}" for one in choices[only]] if only is not None and choices[only] else [f"{one}=" for one in keys]
        )
    return found


def _choices_of(kind: str, name: str) -> dict[str, list[str]]:
    """The settings of a plugin with what they can be; none for one that does not work, as the command itself will say."""
    from amc_plugins.core.registry import registry

    try:
        spec: Any = registry().spec(kind, name)
    except AmcError:
        return {}
    return dict(_choices(spec.settings.model_json_schema())) if hasattr(spec, "settings") else {}


def _choices(schema: Mapping[str, Any], *, dotted: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Name -> the values of a choice or a switch, else the default, if there is one. `dotted`: sections give dotted names."""
    from amc_plugins.core.toml_text import toml_value

    defs = schema.get("$defs", {})
    for name, one in schema.get("properties", {}).items():
        references = [part["$ref"].rpartition("/")[2] for part in (one, *one.get("anyOf", ())) if "$ref" in part]
        meant = [defs[reference] for reference in references if reference in defs]
        nested = [part for part in meant if "properties" in part]
        if nested and dotted:
            inner = _choices({**nested[0], "$defs": defs}, dotted=True)
            yield from ((f"{name}.{key}", values) for key, values in inner)
            continue
        values = [value for part in (one, *meant) for value in _values(part)]
        if not values and one.get("default") is not None:
            values = [toml_value(one["default"])]
        yield name, values


def _values(field: Mapping[str, Any]) -> Iterator[str]:
    if field.get("type") == "boolean":
        yield from ("true", "false")
    for value in (*field.get("enum", ()), *([field["const"]] if "const" in field else ())):
        yield str(value)
    for part in field.get("anyOf", ()):
        yield from _values(part)
