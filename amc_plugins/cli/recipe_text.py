"""A recipe to fill in, written from the models that read it: every step, every setting, its meaning, bounds and default.

Nothing is listed here by name, so nothing can be forgotten: a field that the models or a plugin's settings gain is in the next
recipe. `# words` explain, `#name = value` is a default or an example: take the `#` away and change it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from amc_plugins.cli import settings_table
from amc_plugins.core.errors import SettingsError, nearest
from amc_plugins.core.recipe import ExportSection, Recipe
from amc_plugins.core.registry import registry
from amc_plugins.core.toml_text import toml_key, toml_value

__all__ = ["Chosen", "recipe_text"]

_WIDTH = 110
_STEPS = {"compress": "compressors", "tune": "tuners", "train": "trainers"}
"""Section -> kind of the plugin that its `method` names."""

_HEAD = """\
Check it with `amc run --dry-run`, run it with `amc run`. Relative paths start at this file's folder. A line `#name = value` is
a default, or an example where it says so: take the `#` away and change it.
"""


@dataclass
class Chosen:
    """What a recipe is to do. Plugins by name; `values` by dotted path (`compress.total`) take the place of examples."""

    compressor: str
    tuner: str | None = None
    trainer: str | None = None
    exporters: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def recipe_text(chosen: Chosen) -> str:
    """The recipe as TOML. The chosen steps are there with what must be filled in; all else is commented out.

    Raises:
        PluginError: a chosen plugin is not installed or broken.
        SettingsError: a path of `values` leads nowhere.
    """
    writer = _Writer(chosen)
    text = "\n".join(writer.lines()) + "\n"
    for path in chosen.values:
        if path not in writer.paths:
            raise SettingsError(f"the recipe has no `{path}`{nearest(path, writer.paths)}")
    return text


def _to_fill_in(chosen: Chosen) -> Iterator[str]:
    """What a recipe of these steps cannot do without, though each is optional by itself."""
    yield from ("network.source", "network.input", "data.calibration")
    if not any(f"compress.{name}" in chosen.values for name in ("ratio", "ratios")):
        yield "compress.total"
    if chosen.trainer is not None:
        yield from ("data.train", "data.validation")


class _Writer:
    def __init__(self, chosen: Chosen) -> None:
        self._values = {**{path: _example(_field(path)) for path in _to_fill_in(chosen)}, **chosen.values}
        self._exporters = chosen.exporters
        self.paths: set[str] = set()
        """Of everything that can be set."""
        self._methods = {"compress": chosen.compressor, "tune": chosen.tuner, "train": chosen.trainer}

    def lines(self) -> Iterator[str]:
        yield from _words(_HEAD)
        yield ""
        sections = {name: model for name, one in Recipe.model_fields.items() if (model := _model(one.annotation)) is not None}
        plain = {name: one for name, one in Recipe.model_fields.items() if name not in sections and name != "export"}
        yield from self._fields(Recipe, plain, "", active=True)
        for name, model in sections.items():
            if name != "export":
                yield from self._section(name, model)
        yield from self._exports()

    def _section(self, name: str, model: type[BaseModel]) -> Iterator[str]:
        kind, method = _STEPS.get(name), self._methods.get(name)
        active = Recipe.model_fields[name].is_required() or method is not None
        active = active or any(path.startswith(f"{name}.") for path in self._values)
        yield ""
        yield from _words(_first(model))
        yield _off(f"[{name}]", active)
        own = {key: one for key, one in model.model_fields.items() if key != "settings" or kind is None}
        if kind is not None:
            installed = sorted(spec.name for spec in registry().specs(kind))
            yield from _words(f"{own['method'].description}; installed: {', '.join(installed) or 'none'}")
            shown = method or next(iter(installed), "NAME")
            yield _off(f"method = {toml_value(shown)}", active)
            del own["method"]
        yield from self._fields(model, own, f"{name}.", active=active)
        if kind is not None and method is not None:
            yield from self._settings(kind, method, f"{name}.settings")

    def _exports(self) -> Iterator[str]:
        yield ""
        yield from _words(_first(ExportSection))
        for spec in registry().specs("exporters"):
            active = spec.name in self._exporters
            yield ""
            yield from _words(spec.summary)
            path = f"export.{toml_key(spec.name)}"
            yield _off(f"[{path}]", active)
            own = {key: one for key, one in ExportSection.model_fields.items() if key != "settings"}
            yield from self._fields(ExportSection, own, f"{path}.", active=active)
            if active:
                yield from self._settings("exporters", spec.name, f"{path}.settings")

    def _settings(self, kind: str, name: str, path: str) -> Iterator[str]:
        spec: Any = registry().spec(kind, name)
        if not spec.settings.model_fields:
            return
        yield ""
        yield from _words(f"{spec.name}: {spec.summary}")
        yield f"[{path}]"
        yield from self._fields(spec.settings, spec.settings.model_fields, f"{path}.", active=True)

    def _fields(self, model: type[BaseModel], fields: Mapping[str, FieldInfo], prefix: str, *, active: bool) -> Iterator[str]:
        """Each field: its meaning, type and bounds, then its line."""
        not_implemented: frozenset[str] = getattr(model, "not_implemented", frozenset())
        table = {row[0]: row for row in settings_table.rows(model.model_json_schema(), not_implemented)}
        for name, one in fields.items():
            key, path = one.alias or name, prefix + (one.alias or name)
            self.paths.add(path)
            _, type_, _, bounds, meaning = table[key]
            yield from _words(f"{meaning or name} ({', '.join(part for part in (type_, bounds) if part)})")
            default = one.get_default(call_default_factory=True)
            if path in self._values:
                yield _off(f"{key} = {toml_value(self._values[path])}", active)
            elif default is not PydanticUndefined and default is not None:
                yield f"#{key} = {toml_value(to_jsonable_python(default))}"
            elif one.is_required():
                yield _off(f"{key} = {toml_value(_example(one))}", active)
            elif one.examples:
                yield f"#{key} = {toml_value(one.examples[0])}  # an example; not set by default"
            else:
                yield f"# {key}: not set by default"


def _off(line: str, active: bool) -> str:
    return line if active else f"#{line}"


def _words(text: str) -> Iterator[str]:
    for line in textwrap.wrap(" ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"


def _first(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip()


def _field(path: str) -> FieldInfo:
    section, _, name = path.partition(".")
    model = _model(Recipe.model_fields[section].annotation)
    assert model is not None
    return model.model_fields[name]


def _example(one: FieldInfo) -> Any:
    return one.examples[0] if one.examples else "..."


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section that a field of the recipe holds, optional or not."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None
