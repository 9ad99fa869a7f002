"""Pydantic's validation errors in the words of whoever wrote the values: one line per problem, with path and nearest name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from amc_plugins.core.errors import SettingsError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["problem_lines", "validated"]

M = TypeVar("M", bound=BaseModel)
_LONGEST_VALUE = 60


def problem_lines(error: ValidationError, model: type[BaseModel] | None = None, prefix: str = "") -> list[str]:
    """One line per problem: `path: what is wrong (given value)`.

    Args:
        error: what pydantic raised.
        model: the model that was validated; with it, an unknown name comes with the nearest valid ones.
        prefix: put before every path, for example `compress.0.settings`.
    """
    lines = []
    for one in error.errors(include_url=False):
        path = ".".join(part for part in (prefix, *(str(part) for part in one["loc"])) if part)
        text = _sentence(one, model)
        lines.append(f"{path}: {text}" if path else text)
    return lines


def validated(model: type[M], given: Mapping[str, Any] | BaseModel, *, what: str, hint: str | None = None) -> M:
    """An instance of `model` from `given`, or from an instance of it.

    Raises:
        SettingsError: lists every problem at once, each with its path; `what` begins the message.
    """
    if isinstance(given, model):
        return given
    if isinstance(given, BaseModel):
        raise SettingsError(f"{what}: expected {model.__name__} or a mapping, given was {type(given).__name__}", hint=hint)
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in problem_lines(error, model))
        raise SettingsError(f"{what}:\n{lines}", hint=hint) from error


def _sentence(one: ErrorDetails, model: type[BaseModel] | None) -> str:
    kind = one["type"]
    if kind == "extra_forbidden":
        name = str(one["loc"][-1]) if one["loc"] else ""
        known = _fields(model, one["loc"][:-1]) if model is not None else []
        listing = f"; known are {', '.join(known)}" if known else ""
        return f"unknown name{nearest(name, known) or listing}"
    if kind == "missing":
        return "missing, and it has no default"
    message = one["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in ("value_error", "assertion_error") and (not one["loc"] or isinstance(one["input"], Mapping)):
        return message  # a check over several fields: the input is the whole mapping, which says nothing
    return f"{message[:1].lower()}{message[1:]} (given {_short(one['input'])})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def _fields(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Names of the fields where `path` leads, in the model's order."""
    models = [model]
    for part in path:
        step: list[type[BaseModel]] = []
        for one in models:
            if isinstance(part, str) and part in one.model_fields:
                step.extend(_models_in(one.model_fields[part].annotation))
            elif isinstance(part, int) or part == one.__name__:  # a list index, or a union's tag for its member
                step.append(one)
        models = step or models
    return [field.alias or name for one in models for name, field in one.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType) or get_args(annotation):
        for one in get_args(annotation):
            yield from _models_in(one)
