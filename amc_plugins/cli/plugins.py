"""`amc plugins list|show|doctor`. `list` reads metadata alone; `show` loads one plugin; `doctor` loads them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from amc_plugins.cli import render
from amc_plugins.core.discovery import KINDS, PluginRecord, discover, kind_word
from amc_plugins.core.errors import PluginError, UnknownPluginError, nearest

if TYPE_CHECKING:
    from amc_plugins.core.specs import PluginSpec

__all__ = ["add_to", "parse_kind"]

_DOCTOR_STATUSES = ("loaded", "available", "disabled", "broken", "conflict")

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Put the group into the command line."""
    app.add_typer(group, name="plugins", help="What is installed, what it takes, and what is wrong with it.")


def parse_kind(value: str | None) -> str | None:
    """A kind as people write it: `compressor`, `compressors`, `layer-handlers`."""
    if value is None:
        return None
    kind = value.lower().replace("-", "_").replace(" ", "_").removesuffix("s") + "s"
    if kind not in KINDS:
        raise typer.BadParameter(f"there is no kind `{value}`{nearest(kind, KINDS) or '; the kinds are ' + ', '.join(KINDS)}")
    return kind


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def _complete_name(context: typer.Context, incomplete: str) -> list[str]:
    return sorted({record.name for record in discover() if record.name.startswith(incomplete)})


Kind = Annotated[
    str | None,
    typer.Option(
        "--kind", "-k", metavar="KIND", callback=parse_kind, autocompletion=_complete_kind, help=f"One of {', '.join(KINDS)}."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=_complete_name, help="A plugin, as `amc plugins list` prints it.")
]


@group.command("list")
def list_plugins(kind: Kind = None, json: Json = False) -> None:
    """List the installed plugins.

    Reads metadata alone: no plugin is imported, so one that cannot be loaded shows as available here; `doctor` finds it.
    """
    records = discover(kind)
    if json:
        render.document({"plugins": [record.as_json() for record in records]})
        return
    columns = ["kind", "name", "distribution", "version", "status"]
    rows = [[record.kind, record.name, record.distribution, record.version, record.status] for record in records]
    if any(record.problem for record in records):
        columns.append("problem")
        for row, record in zip(rows, records, strict=True):
            row.append(record.problem or "")
    if rows:
        render.table(columns, rows)
    else:
        render.note("no plugins are installed" if kind is None else f"no {kind} are installed")


@group.command("show")
def show(name: Name, kind: Kind = None, json: Json = False) -> None:
    """Show a plugin's declaration and settings.

    With --json the settings are a JSON Schema. Imports the light module of that plugin.
    """
    found = [(_owner(one, name), _spec(one, name)) for one in _kinds_of(name, kind)]
    if json:
        render.document({"plugins": [_as_json(record, spec) for record, spec in found]})
        return
    for index, (record, spec) in enumerate(found):
        if index:
            render.text()
        _print(record, spec)


@group.command("doctor")
def doctor(json: Json = False) -> None:
    """Load every plugin and explain each problem.

    Comes with the way out of each; the exit code is 1 if there is one. Imports every plugin, its code included.
    """
    records = _loaded()
    bad = [record for record in records if record.status in ("broken", "conflict")]
    if json:
        render.document({"ok": not bad, "plugins": [record.as_json() for record in records]})
    else:
        for record in bad:
            render.text(f"{record.status}: {record}")
            for line in (record.problem or "").splitlines():
                render.text(f"  {line}")
            if record.hint:
                render.text(f"  hint: {record.hint}")
            render.text()
        counts = {status: sum(record.status == status for record in records) for status in _DOCTOR_STATUSES}
        render.text(", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no plugins are installed")
    if bad:
        raise typer.Exit(1)


def _loaded() -> list[PluginRecord]:
    """All records, loaded; with a damaged entry point file, what metadata tells: pydantic, for one, cannot be imported then."""
    found = discover()
    if any(record.status == "broken" for record in found):
        return found
    from amc_plugins.core.registry import registry

    return registry().load_all(targets=True)


# --- show ---------------------------------------------------------------------------------------------------------------


def _kinds_of(name: str, kind: str | None) -> list[str]:
    """The kinds that have a plugin of this name: installed ones, else the catalog's, whose error says what to install."""
    if kind is not None:
        return [kind]
    from amc_plugins.core.catalog import BUILT_IN
    from amc_plugins.core.registry import registry

    records = registry().records()
    kinds = list(dict.fromkeys(record.kind for record in records if record.name == name))
    kinds = kinds or [one for one, names in BUILT_IN.items() if name in names]
    if not kinds:
        known = {record.name for record in records} | {one for names in BUILT_IN.values() for one in names}
        raise UnknownPluginError(f"there is no plugin `{name}`{nearest(name, known)}", hint="amc plugins list")
    return kinds


def _spec(kind: str, name: str) -> PluginSpec:
    from amc_plugins.core.registry import registry

    return registry().spec(kind, name)


def _owner(kind: str, name: str) -> PluginRecord:
    from amc_plugins.core.registry import registry

    record = registry().owner(_spec(kind, name))
    assert record is not None, "a declaration of the registry has a record"
    return record


def _as_json(record: PluginRecord, spec: PluginSpec) -> dict[str, Any]:
    declaration = spec.model_dump(mode="json", exclude={"settings"})
    content: dict[str, Any] = {**record.as_json(), "declaration": declaration}
    if hasattr(spec, "settings"):
        content["settings"] = _schema(record, spec)
        content["not_implemented"] = sorted(spec.settings.not_implemented)
    return content


def _schema(record: PluginRecord, spec: Any) -> dict[str, Any]:
    from pydantic.errors import PydanticUserError

    try:
        schema: dict[str, Any] = spec.settings.model_json_schema()
    except PydanticUserError as error:
        raise PluginError(f"{record} is broken: its settings have no JSON Schema: {error.message}") from error
    return schema


def _print(record: PluginRecord, spec: PluginSpec) -> None:
    from amc_plugins.cli import settings_table

    details = spec.model_dump(mode="json", exclude={"settings", "name", "summary", "api"})
    pairs = [
        ("name", spec.name),
        ("kind", kind_word(record.kind)),
        ("summary", spec.summary),
        ("distribution", record.source),
        ("module", record.module),
        ("api", ".".join(map(str, spec.api))),
    ]
    pairs += [(key, _words(value)) for key, value in details.items() if value not in ([], {}, None)]
    render.fields(pairs)
    if not hasattr(spec, "settings"):
        return
    render.text()
    rows = settings_table.rows(_schema(record, spec), spec.settings.not_implemented)
    if rows:
        render.table(settings_table.COLUMNS, rows)
    else:
        render.text("It takes no settings.")


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    return str(value)
