"""Keeps pydantic out of commands whose arguments need no conversion.

Typer (0.29) converts every argument with a pydantic adapter, also a `str` that stays what it is: a quarter of all that
`amc plugins list` would import. Here a value that has its declared type already goes straight to the parameter's callback;
anything else takes typer's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

__all__ = ["spare_conversions"]


def spare_conversions(command: Any) -> None:
    """Apply to a command and to those below it. Without effect on versions of typer that use no adapters."""
    all_parameters = command.get_params

    def get_params(context: Any) -> list[Any]:
        parameters: list[Any] = all_parameters(context)  # the help option is made here
        for parameter in parameters:
            descriptor = getattr(parameter, "type_descriptor", None)
            if descriptor is not None and "process_value" not in vars(parameter) and _is_plain(descriptor.parameter_info):
                parameter.process_value = _direct(parameter, descriptor.annotation)
        return parameters

    command.get_params = get_params
    for below in getattr(command, "commands", {}).values():
        spare_conversions(below)


def _is_plain(info: Any) -> bool:
    """Whether the declaration has nothing that typer would check or call."""
    return all(getattr(info, name, None) is None for name in ("parser", "click_type", "min", "max"))


def _direct(parameter: Any, annotation: Any) -> Callable[[Any, Any], Any]:
    typers_way = parameter.process_value

    def process_value(context: Any, value: Any) -> Any:
        missing = parameter.required and parameter.value_is_missing(value)
        if missing and context.resilient_parsing:  # completion: the line is not finished
            return value
        if missing or not _fits(value, annotation, many=parameter.multiple or parameter.nargs != 1):
            return typers_way(context, value)
        if isinstance(value, tuple):
            value = list(value)
        return value if parameter.callback is None else parameter.callback(context, parameter, value)

    return process_value


def _fits(value: Any, annotation: Any, *, many: bool) -> bool:
    if value is None:
        return True
    if many:
        if not isinstance(value, list | tuple) or get_origin(annotation) is not list:
            return False
        (item_type,) = get_args(annotation)
        return all(_fits(item, item_type, many=False) for item in value)
    if get_origin(annotation) is Union:
        return any(_fits(value, one, many=False) for one in get_args(annotation))
    if annotation in (str, int, bool):
        return type(value) is annotation
    return False
