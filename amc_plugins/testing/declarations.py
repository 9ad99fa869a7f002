"""Checks that plugins of every kind get: the declaration, what importing it costs, and its settings."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from amc_plugins.core.discovery import KINDS, kind_word
from amc_plugins.core.errors import SettingsError, nearest
from amc_plugins.core.registry import SCRIPT, import_target, registry
from amc_plugins.core.specs import AMC_API
from amc_plugins.core.toml_text import toml_text
from amc_plugins.testing.checks import DoesNotApply, Subject, check, check_names

__all__ = ["imported_by"]

_BASES = {
    "layer_handlers": "amc_plugins.handlers:LayerHandler",
    "compressors": "amc_plugins.compression:Compressor",
    "tuners": "amc_plugins.tuning:Tuner",
    "trainers": "amc_plugins.training:Trainer",
    "exporters": "amc_plugins.exporting:Exporter",
    "observers": "builtins:object",
}
_SINCE = {"known_exceptions": (1, 1), "examples": (1, 1), "engines": (1, 1)}
"""Fields of declarations that came after 1.0."""
_HEAVY = ("jax", "numpy", "onnx", "pandas", "scipy", "sklearn", "tensorflow", "torch", "torchvision")
_WITH_SETTINGS = [kind for kind in KINDS if kind != "layer_handlers"]


@check(*KINDS)
def check_declaration(subject: Subject) -> None:
    """It loads, its class is of its kind, and its declaration uses nothing that its `api` does not have.

    Known exceptions must name checks and give reasons.
    """
    spec = subject.spec
    base = import_target(_BASES[subject.kind])
    assert issubclass(subject.target, base), f"`{spec.target}` is not a subclass of {base.__module__}.{base.__name__}"
    assert spec.api <= AMC_API, f"its api is {spec.api}, this core has {AMC_API}"
    for name, since in _SINCE.items():
        assert name not in spec.model_fields_set or spec.api >= since, f"`{name}` came with api {since}, it declares {spec.api}"
    titles = check_names(subject.kind)
    for title, reason in spec.known_exceptions.items():
        assert title in titles, f"`known_exceptions` names the check `{title}`, which there is not{nearest(title, titles)}"
        assert reason.strip(), f"`known_exceptions` gives no reason for `{title}`"


@check(*KINDS)
def check_light_to_import(subject: Subject) -> None:
    """Importing the module of its entry point, and calling its hooks, loads neither torch nor numpy nor scipy."""
    record = subject.record
    if record.distribution == SCRIPT:
        raise DoesNotApply("registered by a script, so nothing imports it from an entry point")
    loaded = imported_by(record.module)
    assert not loaded, f"importing `{record.module}` loads {loaded}"


_PROBE = """
import importlib, json, sys, traceback
heavy, hooks, modules = json.loads(sys.argv[1])

class Gate:
    def __init__(self):
        self.seen = []

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            frames = [one for one in traceback.extract_stack() if "importlib" not in one.filename]
            at = frames[-2] if len(frames) > 1 else frames[-1]
            self.seen.append(f"{name} at {at.filename}:{at.lineno}")
            raise ImportError(f"{name} is not for light modules")
        return None

gate = Gate()
sys.meta_path.insert(0, gate)
found = {}
for module in modules:
    gate.seen = []
    try:
        imported = importlib.import_module(module)
        for hook in hooks:
            list(getattr(imported, hook, list)())
    except BaseException as error:
        if not gate.seen:
            gate.seen.append(f"nothing: it fails with {type(error).__name__}: {error}")
    found[module] = gate.seen[0] if gate.seen else ""
print(json.dumps(found))
"""
_probed: dict[str, str] = {}


def imported_by(*modules: str) -> str:
    """What of the heavy libraries importing these modules would load, and where: `torch at file:line`; empty for nothing.

    They are imported in a new process that refuses heavy libraries; what is known already is not asked again.
    """
    if unknown := [module.partition(":")[0] for module in modules if module.partition(":")[0] not in _probed]:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:] = {sys.path!r}\n{_PROBE}",
                json.dumps([_HEAVY, [f"amc_{kind}" for kind in KINDS], unknown]),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"importing {', '.join(unknown)} ends the process: {done.stderr.strip()[-500:]}"
        _probed.update(json.loads(done.stdout.splitlines()[-1]))
    return "; ".join(text for module in modules if (text := _probed[module.partition(":")[0]]))


# --- settings -------------------------------------------------------------------------------------------------------------


@check(*_WITH_SETTINGS)
def check_settings_are_described(subject: Subject) -> None:
    """Every setting has a description and a default, so `amc plugins show` explains it and no user must give it."""
    bare = [name for name, field in subject.settings_model.model_fields.items() if not (field.description or "").strip()]
    assert not bare, f"settings without a description: {', '.join(bare)}"
    needed = [name for name, field in subject.settings_model.model_fields.items() if field.is_required()]
    assert not needed, f"settings without a default: {', '.join(needed)}"
    fields = subject.settings_model.model_fields
    for old, new in subject.settings_model.renamed.items():
        assert new in fields and old not in fields, f"`renamed` leads from `{old}` to `{new}`, and there is no such new setting"


@check(*_WITH_SETTINGS)
def check_settings_round_trip(subject: Subject) -> None:
    """Settings survive JSON (the store, `--json`) and TOML (recipes): the defaults, and every other value of each field."""
    model = subject.settings_model
    for values in [{}, *_variations(subject)]:
        settings = model.model_validate(values)
        plain = settings.model_dump(mode="json")
        given = f"the settings {values or 'by default'}"
        assert model.model_validate(json.loads(json.dumps(plain))) == settings, f"{given} do not survive JSON"
        for data in (plain, settings.model_dump(mode="json", exclude_unset=True)):
            text = toml_text({"settings": data})
            again = model.model_validate(tomllib.loads(text).get("settings", {}))
            assert again == settings, f"{given} do not survive TOML: {text.strip()!r} becomes {again!r}"


@check(*_WITH_SETTINGS)
def check_bad_settings_are_refused(subject: Subject) -> None:
    """Unknown names, wrong types, values out of bounds and settings that do nothing yet are refused as `SettingsError`s that
    name the setting.
    """
    _refused(subject, {"no_such_setting": 1}, "no_such_setting")
    schema = subject.settings_model.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        for value in _wrong_values(field, schema.get("$defs", {})):
            _refused(subject, {name: value}, name)
    for name in subject.settings_model.not_implemented:
        for value in _values(schema["properties"][name], schema.get("$defs", {})):
            if value != schema["properties"][name].get("default"):
                _refused(subject, {name: value}, name)


def _refused(subject: Subject, values: Mapping[str, Any], name: str) -> None:
    try:
        registry().create(subject.kind, subject.name, values)
    except SettingsError as error:
        assert name in str(error), f"the refusal of {values} does not name `{name}`: {error}"
        return
    except Exception as error:
        raise AssertionError(
            f"the settings {values} raise {type(error).__name__} ({error}) instead of SettingsError"
        ) from error
    raise AssertionError(f"the settings {values} of {kind_word(subject.kind)} `{subject.name}` are accepted")


def _variations(subject: Subject) -> Iterator[dict[str, Any]]:
    """Other values for each setting, one at a time, less those that the model refuses by itself."""
    model = subject.settings_model
    schema = model.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        for value in _values(field, schema.get("$defs", {})):
            try:
                model.model_validate({name: value})
            except ValueError:  # needs another setting beside it, or is not implemented yet
                continue
            yield {name: value}


def _values(field: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[Any]:
    """Values that fit a field of a JSON Schema."""
    if "$ref" in field:
        yield from _values(defs.get(field["$ref"].rpartition("/")[2], {}), defs)
    for one in field.get("anyOf", field.get("oneOf", ())):
        yield from _values(one, defs)
    yield from field.get("enum", ())
    kind = field.get("type")
    if "enum" in field:
        return
    if kind == "boolean":
        yield from (True, False)
    elif kind in ("integer", "number"):
        step = 1 if kind == "integer" else 0.1234567890123
        low = field.get("minimum", field.get("exclusiveMinimum", 0 if "maximum" not in field else field["maximum"] - 10 * step))
        yield low + step
        if "maximum" in field or "exclusiveMaximum" in field:
            yield field.get("maximum", field.get("exclusiveMaximum", 0) - step)
    elif kind == "string" and "pattern" not in field:
        yield 'a "b" \\ c\u00e9'
    elif kind == "array" and isinstance(field.get("items"), Mapping):
        yield list(_values(field["items"], defs))[:1]
    elif kind == "object" and isinstance(field.get("additionalProperties"), Mapping):
        inside = list(_values(field["additionalProperties"], defs))
        yield {"layer1.*": inside[0]} if inside else {}


def _wrong_values(field: Mapping[str, Any], defs: Mapping[str, Any]) -> list[Any]:
    """Values that do not fit a field of a JSON Schema: of a wrong type, and just out of its bounds."""
    kinds = [field, *field.get("anyOf", field.get("oneOf", ()))]
    kinds = [defs.get(one["$ref"].rpartition("/")[2], {}) if "$ref" in one else one for one in kinds]
    if any(not {"type", "enum", "anyOf", "oneOf", "const"} & set(one) for one in kinds):
        return []  # takes anything
    types = {one.get("type") for one in kinds}
    wrong: list[Any] = [] if "object" in types else [{"no": {"such": "value"}}]
    wrong += [] if "array" in types else [["no such value", {}]]
    if len(kinds) == 1:
        wrong += [field[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in field]
        wrong += [field[key] + step for key, step in (("minimum", -1), ("maximum", 1)) if key in field]
    return wrong
