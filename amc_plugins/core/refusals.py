"""What to say when a plugin cannot be had: which distribution to install, or why the installed one does not run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from amc_plugins.core import catalog
from amc_plugins.core.discovery import PluginRecord, kind_word
from amc_plugins.core.errors import PluginError, UnknownPluginError, UnsupportedOpError, nearest

__all__ = ["no_handler", "why_not"]


def why_not(records: Sequence[PluginRecord], kind: str, name: str) -> PluginError:
    """The error for a plugin that no record of `records` provides.

    A broken one is a PluginError; the rest (conflict, disabled, not installed, unknown) is an UnknownPluginError.
    """
    same_name = [record for record in records if record.name == name]
    own = {record.status: record for record in reversed(same_name) if record.kind == kind}
    if (record := own.get("broken")) is not None:
        error = PluginError(f"{record} is broken: {record.problem}", hint=record.hint)
        error.__cause__ = record.error
        return error
    if (record := own.get("conflict")) is not None:
        return UnknownPluginError(f"{record} is in conflict: {record.problem}", hint=record.hint)
    if (record := own.get("disabled")) is not None:
        return UnknownPluginError(f"{record} is {record.problem}", hint=record.hint)
    word = kind_word(kind)
    if (distribution := catalog.distribution_of(kind, name)) is not None:
        return UnknownPluginError(f"{word} `{name}` is not installed", hint=f"pip install {distribution}")
    known = {record.name for record in records if record.kind == kind} | set(catalog.BUILT_IN[kind])
    close = nearest(name, known)
    if not close and same_name:
        close = f"; there is a {kind_word(same_name[0].kind)} of that name"
    return UnknownPluginError(f"there is no {word} `{name}`{close}", hint=f"amc plugins list --kind {kind}")


def no_handler(records: Sequence[PluginRecord], op: str, claimants: Sequence[str], known: Iterable[str]) -> UnsupportedOpError:
    """The error for an op that nothing handles.

    Args:
        records: of all kinds.
        op: the op id.
        claimants: names of the layer handlers that declare this op but do not run.
        known: the op ids that are handled.
    """
    name = claimants[0] if claimants else catalog.OPS.get(op)
    if name is not None and any(record.kind == "layer_handlers" and record.name == name for record in records):
        reason = why_not(records, "layer_handlers", name)
        refusal = UnsupportedOpError(f"nothing handles the op `{op}`: {reason}", hint=reason.hint)
        refusal.__cause__ = reason.__cause__
        return refusal
    if (distribution := catalog.distribution_of_op(op)) is not None:
        problem = f"nothing handles the op `{op}`: {distribution} is not installed"
        return UnsupportedOpError(problem, hint=f"pip install {distribution}")
    return UnsupportedOpError(
        f"no installed plugin handles the op `{op}`{nearest(op, {*known, *catalog.OPS})}",
        hint=f"install the distribution that brings it (`{op.partition('.')[0]}`?), or import the module or repeat the "
        "`amc.register(...)` that added it to the script; `amc plugins doctor` shows handlers that could not be loaded",
    )
