"""The generated pages of the documentation: hooks, settings of every installed plugin, commands, recipes, public names.

Each function gives the Markdown of one page. Nothing is listed by hand: a new hook, setting, plugin, command or public name is
in the site with the next build, and tests/test_docs_site.py fails when one has no description.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import typer
from pydantic import BaseModel

import amc_plugins as amc
from amc_plugins.cli.app import app
from amc_plugins.cli.settings_table import rows
from amc_plugins.core import hookspecs
from amc_plugins.core.discovery import KINDS, kind_word
from amc_plugins.core.recipe import Recipe
from amc_plugins.core.registry import registry
from amc_plugins.core.specs import LayerHandlerSpec, PluginSpec
from scripts import reference_heads as heads

__all__ = ["AUTHOR_MODULES", "commands", "hooks", "pages", "signature"]

AUTHOR_MODULES = ("plugin", "handlers", "graph", "compression", "tuning", "training", "exporting", "document", "testing")
"""What a plugin may import, in the order in which an author meets it."""

GENERATED = "<!-- Written by scripts/reference.py when the site is built. -->\n\n"


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    found = {
        "reference/commands.md": commands_page(),
        "reference/recipe.md": recipe_page(),
        "reference/hooks.md": hooks_page(),
        "reference/layer-handlers.md": handlers_page(),
        "reference/python.md": user_page(),
    }
    for kind in KINDS:
        if kind != "layer_handlers":
            found[f"reference/{kind}.md"] = plugins_page(kind)
    for module in AUTHOR_MODULES:
        found[f"reference/author-{module}.md"] = author_page(module)
    return {path: GENERATED + text for path, text in found.items()}


# --- hooks --------------------------------------------------------------------------------------------------------------


def hooks() -> dict[str, Any]:
    """Name -> function of every hook specification."""
    marker = f"{hookspecs.PROJECT}_spec"
    return {name: one for name, one in vars(hookspecs).items() if hasattr(one, marker)}


def signature(hook: Any) -> str:
    """A hook as its heading says it, for example `amc_epoch_ended(run, epoch, metrics)`."""
    return f"{hook.__name__}({', '.join(inspect.signature(hook).parameters)})"


def hooks_page() -> str:
    """Every hook with its exact arguments."""
    collecting = {name: one for name, one in hooks().items() if not inspect.signature(one).parameters}
    observing = {name: one for name, one in hooks().items() if name not in collecting}
    parts = [heads.HOOKS, heads.COLLECTING, *map(_hook, collecting.values()), heads.OBSERVING, *map(_hook, observing.values())]
    return "\n".join(parts)


def _hook(hook: Any) -> str:
    prose, _, example = (inspect.getdoc(hook) or "").partition("\n\nExample:\n")
    taken = inspect.signature(hook)
    lines = [f"### `{signature(hook)}` {{ #{hook.__name__} }}\n", prose, ""]
    if taken.parameters:
        lines += ["| argument | type |", "|---|---|"]
        lines += [f"| `{name}` | `{one.annotation}` |" for name, one in taken.parameters.items()]
        lines.append("")
    lines += [f"Returns `{taken.return_annotation}`.", ""] if taken.return_annotation not in (None, "None") else []
    lines += [_fence("python", textwrap.dedent(example))] if example else []
    return "\n".join(lines)


# --- plugins and their settings -----------------------------------------------------------------------------------------


def plugins_page(kind: str) -> str:
    """The installed plugins of one kind, each with every setting."""
    word = kind_word(kind)
    head = heads.PLUGINS.format(Title=word.capitalize(), title=word)
    return "\n".join([head, *(_plugin(spec) for spec in _specs(kind))])


def _specs(kind: str) -> list[PluginSpec]:
    return sorted(registry().specs(kind), key=lambda spec: spec.name)


def _distribution(spec: PluginSpec) -> str:
    record = registry().owner(spec)
    assert record is not None, spec.name
    return record.distribution


def _plugin(spec: PluginSpec) -> str:
    lines = [f"## `{spec.name}` {{ #{spec.name} }}\n", f"{_sentence(spec.summary)} From `{_distribution(spec)}`.", ""]
    suffixes = getattr(spec, "suffixes", ())
    if suffixes:
        reads = "reads them back" if spec.loads else "does not read them back"  # type: ignore[attr-defined]
        lines += [f"Writes {', '.join(f'`{one}`' for one in suffixes)} files and {reads}.", ""]
    settings = spec.settings  # type: ignore[attr-defined]
    body = settings_table(settings)
    lines.append(body or "No settings.\n")
    if settings.renamed:
        lines += [
            "Old names that are still taken: " + ", ".join(f"`{a}` (now `{b}`)" for a, b in settings.renamed.items()) + ".",
            "",
        ]
    lines += [f"The conformance check `{name}` is a known exception: {why}\n" for name, why in spec.known_exceptions.items()]
    return "\n".join(lines)


def settings_table(model: type[BaseModel]) -> str:
    """A settings model as a table, one row a setting; nothing for a model without fields."""
    found = _field_rows(model)
    return _table([("setting", "type", "default", "meaning"), *found]) if found else ""


def _field_rows(model: type[BaseModel]) -> list[tuple[str, ...]]:
    found = []
    for name, kind, default, bounds, meaning in rows(model.model_json_schema(), getattr(model, "not_implemented", frozenset())):
        field = model.model_fields.get(name)
        if field is not None and field.default_factory is not None:
            default = json.dumps(field.get_default(call_default_factory=True))  # noqa: PLW2901 - the schema leaves it out
        found.append((f"`{name}`", f"`{kind}`", default if default == "required" else f"`{default}`", _with(meaning, bounds)))
    return found


def _with(meaning: str, bounds: str) -> str:
    return f"{_cell(meaning)} (`{bounds}`)" if bounds else _cell(meaning)


def handlers_page() -> str:
    """Every operation that is captured, with what becomes it."""
    table = [("handler", "op", "what it is", "captures")]
    for spec in _specs("layer_handlers"):
        assert isinstance(spec, LayerHandlerSpec)
        captures = "<br>".join(f"`{_short(one)}`" for one in spec.captures) or "made by plugins only"
        what = f"{_cell(spec.summary)}<br>`{_distribution(spec)}`"
        table.append((f"`{spec.name}`{{ #{spec.name} }}", f"`{spec.op}`", what, captures))
    return f"{heads.HANDLERS}\n{_table(table)}"


def _short(captured: str) -> str:
    return captured.replace("torch.nn.functional.", "F.").replace("torch.nn.", "nn.").replace("torch.Tensor.", "Tensor.")


# --- recipes ------------------------------------------------------------------------------------------------------------


def recipe_page() -> str:
    """Every table of a recipe, from the model that validates it."""
    parts = [heads.RECIPES]
    nested = {name: _models(field.annotation) for name, field in Recipe.model_fields.items()}
    plain = [name for name, models in nested.items() if not models]
    parts.append(_fields(Recipe, plain))
    for name, models in nested.items():
        for model in models:
            title = f"{name}.EXPORTER" if name == "export" else name
            lead = inspect.getdoc(model) or ""
            needed = "" if Recipe.model_fields[name].is_required() else " Optional."
            parts += [f"## `[{title}]` {{ #{name} }}\n", f"{lead}{needed}\n", _fields(model, list(model.model_fields))]
    return "\n".join(parts)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models(part)]


def _fields(model: type[BaseModel], names: Iterable[str]) -> str:
    wanted = {f"`{name}`" for name in names}
    return _table([("key", "type", "default", "meaning"), *(row for row in _field_rows(model) if row[0] in wanted)])


# --- commands -----------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """`amc compress` -> its command, every group's commands included, in order of their names."""

    def walk(prefix: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield prefix, command
        for name in sorted(inner or ()):
            if not inner[name].hidden:
                yield from walk(f"{prefix} {name}", inner[name])

    return dict(walk("amc", typer.main.get_command(app)))


def commands_page() -> str:
    """Every command with all its arguments and options."""
    root = typer.main.get_command(app)
    parts = [heads.COMMANDS, _parameters(root), heads.ENVIRONMENT]
    parts += [_command(name, command) for name, command in commands().items()]
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    prose, example = _help(command)
    usage = " ".join([name, "[OPTIONS]", *(_metavar(one) for one in command.params if one.param_type_name == "argument")])
    anchor = name.replace(" ", "-")
    lines = [f"## `{name}` {{ #{anchor} }}\n", prose, "", _fence("text", usage), _parameters(command)]
    return "\n".join([*lines, _fence("sh", example)] if example else lines)


def _help(command: Any) -> tuple[str, str]:
    """Prose and the example lines of a command's help."""
    prose, _, example = inspect.cleandoc(command.help or "").partition("\b\n")
    return prose.strip(), example.rstrip()


def _parameters(command: Any) -> str:
    table = [("argument or option", "default", "meaning")]
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        spelled = _metavar(one) if one.param_type_name == "argument" else _option(one)
        text = _cell(getattr(one, "help", "") or "")
        table.append((f"`{spelled}`", _default(one), text))
    return _table(table) if len(table) > 1 else ""


def _metavar(argument: Any) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    flag = getattr(option, "is_flag", False) or getattr(option, "count", False)
    return names if flag else f"{names} {option.metavar or 'TEXT'}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if (
        value is None
        or value == []
        or value is False
        or value == ()
        or callable(value)
        or not isinstance(value, str | int | float)
    ):
        return ""
    return f"`{json.dumps(value) if isinstance(value, bool) else value}`"


# --- public names of Python ---------------------------------------------------------------------------------------------


def user_page() -> str:
    """Every name of `amc_plugins`."""
    names = [name for name in amc.__all__ if not name.startswith("__")]
    return heads.PYTHON + "\n" + "\n".join(_documented("amc_plugins", name) for name in names)


def author_page(module: str) -> str:
    """Every name of one module of the author's API."""
    path = f"amc_plugins.{module}"
    found = import_module(path)
    doc = inspect.cleandoc(found.__doc__ or "")
    return f"# `{path}`\n\n{_blocks(doc)}\n\n" + "\n".join(_documented(path, name) for name in found.__all__)


def _documented(module: str, name: str) -> str:
    return f"::: {module}.{name}\n"


def _blocks(doc: str) -> str:
    """Indented code of a docstring as fences."""

    def fence(match: re.Match[str]) -> str:
        code = textwrap.dedent(match[0]).strip("\n")
        return "\n" + _fence("toml" if code.startswith("[") else "python", code) + "\n"

    return re.sub(
        r"(?:^(?: {4}.*)?\n?)+", lambda match: fence(match) if match[0].strip() else match[0], doc, flags=re.M
    ).replace("::\n", ":\n")


# --- benchmarks ---------------------------------------------------------------------------------------------------------


def benchmarks_page(results: Iterable[tuple[str, str]]) -> str:
    """What each result says at its head, with its command and its first table: (path in the site, Markdown) of every result."""
    parts = [heads.BENCHMARKS]
    for path, text in results:
        title, _, body = text.strip().replace("](", "](results/").partition("\n")
        lead = body.strip().split("\n\n")
        command = next((one.strip() for one in lead if one.startswith("    ")), "")
        table = next((one for one in lead if one.startswith("|")), "")
        rows = table.splitlines()
        parts += [f"## {title.lstrip('# ')}\n", lead[0], "", f"`{command}`" if command else "", ""]
        parts += [
            *rows[:_ROWS],
            "",
            f"[All of it]({path})\n" if len(rows) > _ROWS or body.count("\n## ") > 1 else f"[The page]({path})\n",
        ]
    return GENERATED + "\n".join(parts)


_ROWS = 8
"""Lines of a table that the summary shows, two of them its head."""


# --- Markdown -----------------------------------------------------------------------------------------------------------


def _fence(language: str, code: str) -> str:
    return f"```{language}\n{code.strip(chr(10))}\n```\n"


def _table(table: list[tuple[str, ...]]) -> str:
    head, *body = table
    lines = [head, ("---",) * len(head), *body]
    return "\n".join(f"| {' | '.join(_pipes(cell) for cell in line)} |" for line in lines) + "\n"


def _pipes(cell: str) -> str:
    """Pipes outside code are escaped; inside they do not end a cell."""
    parts = cell.split("`")
    return "`".join(part.replace("|", r"\|") if i % 2 == 0 else part for i, part in enumerate(parts))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;") if "`" not in text else " ".join(text.split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
