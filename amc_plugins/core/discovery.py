"""Which plugins are installed, from the metadata of distributions alone: nothing is imported. Standard library only.

Metadata knows the statuses `available`, `disabled` and `conflict` (and `broken` for an entry point file that cannot be read);
loading (`amc_plugins.core.registry`) adds `loaded` and `broken`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Literal

__all__ = ["KINDS", "PluginRecord", "Status", "disabled_from_environment", "discover", "kind_word", "normalized", "plugins"]

Status = Literal["available", "disabled", "conflict", "loaded", "broken"]

DISABLE_VARIABLE = "AMC_DISABLE"
UNREADABLE = "?"
"""The name of a record whose distribution has an entry point file that cannot be read."""

KINDS: dict[str, str] = {
    kind: f"amc_plugins.{kind}" for kind in ("layer_handlers", "compressors", "tuners", "trainers", "exporters", "observers")
}
"""Kind -> entry point group."""


@dataclass
class PluginRecord:
    """What is known of one entry point. `problem` says what is wrong, `hint` the way out; neither is set when all is well."""

    kind: str
    name: str
    distribution: str
    version: str
    module: str
    """The entry point's value: the light module that declares the plugin."""
    status: Status = "available"
    problem: str | None = None
    hint: str | None = None
    error: BaseException | None = field(default=None, repr=False, compare=False)
    """What was raised while it loaded; its traceback is for `--debug`."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, name and normalized distribution: unique among the records of one discovery."""
        return (self.kind, self.name, normalized(self.distribution))

    @property
    def source(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".rstrip()

    def __str__(self) -> str:
        return f"{kind_word(self.kind)} `{self.name}` ({self.source})"

    def as_json(self) -> dict[str, str | None]:
        """The record as plain data, in a fixed order."""
        return {
            "kind": self.kind,
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "module": self.module,
            "status": self.status,
            "problem": self.problem,
            "hint": self.hint,
        }

    def mark(self, status: Status, problem: str, hint: str | None = None, error: BaseException | None = None) -> None:
        """Set the status together with its explanation."""
        self.status, self.problem, self.hint, self.error = status, problem, hint, error


def discover(kind: str | None = None, disabled: Iterable[str] | None = None) -> list[PluginRecord]:
    """The installed plugins, sorted by kind, name and distribution. Imports none of them.

    Args:
        kind: one of `KINDS`; None for all.
        disabled: what to switch off: a name, `kind:name`, or a distribution. None reads `AMC_DISABLE` (comma separated).

    Raises:
        ValueError: `kind` is unknown.
    """
    _check(kind)
    switched_off = disabled_from_environment() if disabled is None else [item.strip() for item in disabled if item.strip()]
    records = {_identity(record): record for record in _read() if kind in (None, record.kind)}
    found = sorted(records.values(), key=_identity)
    for record in found:
        if record.status == "available" and (item := _disabling(record, switched_off)) is not None:
            record.mark("disabled", f"disabled by `{item}`", f"take `{item}` out of {DISABLE_VARIABLE} or --disable")
    _mark_conflicts(found)
    return found


def disabled_from_environment() -> list[str]:
    """The items of `AMC_DISABLE`."""
    return [item for part in os.environ.get(DISABLE_VARIABLE, "").split(",") if (item := part.strip())]


_live: Callable[[str | None], list[PluginRecord]] | None = None


def show_live(records: Callable[[str | None], list[PluginRecord]] | None) -> None:
    """Let `plugins` answer from a registry that has loaded some of them already."""
    global _live  # noqa: PLW0603 - one per process, like the registry it belongs to
    _live = records


def plugins(kind: str | None = None) -> list[PluginRecord]:
    """Records of the installed plugins, as `amc plugins list` shows them, with what this process has loaded so far.

    Raises:
        ValueError: `kind` is unknown.
    """
    _check(kind)
    return discover(kind) if _live is None else _live(kind)


def kind_word(kind: str) -> str:
    """The singular for messages: `layer handler`, `compressor`."""
    return kind.removesuffix("s").replace("_", " ")


@cache
def normalized(distribution: str) -> str:
    """A distribution's name in the one spelling that compares equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _check(kind: str | None) -> None:
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown kind `{kind}`: the kinds are {', '.join(KINDS)}")


def _identity(record: PluginRecord) -> tuple[str, str, str, str]:
    return (*record.key, record.module)


def _disabling(record: PluginRecord, items: list[str]) -> str | None:
    for item in items:
        if item in (record.name, f"{record.kind}:{record.name}") or normalized(item) == normalized(record.distribution):
            return item
    return None


def _mark_conflicts(records: list[PluginRecord]) -> None:
    claims: dict[tuple[str, str], list[PluginRecord]] = {}
    for record in records:
        if record.status == "available":
            claims.setdefault((record.kind, record.name), []).append(record)
    for (kind, name), rivals in claims.items():
        if len(rivals) > 1:
            mark_conflict(rivals, f"{kind_word(kind)} `{name}` is claimed by {listed(rivals)}")


def mark_conflict(rivals: list[PluginRecord], problem: str) -> None:
    """Make all of `rivals` a conflict; the hint names a distribution other than the record's own. An earlier conflict stays."""
    for record in rivals:
        if record.status == "conflict":
            continue
        other = next((rival.distribution for rival in rivals if rival is not record), record.distribution)
        if normalized(other) == normalized(record.distribution):
            way_out = f"{record.distribution} must give them different names"
        else:
            way_out = f"disable one distribution: --disable {other} (or {DISABLE_VARIABLE}={other}), or uninstall it"
        until = "until then none of them runs, unless one declares that it replaces the other"
        record.mark("conflict", problem, f"{way_out}; {until}")


def listed(records: list[PluginRecord]) -> str:
    """`a 1.0 and b 2.0`, for messages."""
    return " and ".join(record.source if record.distribution else record.module for record in records)


# --- metadata ---------------------------------------------------------------------------------------------------------


def _read() -> list[PluginRecord]:
    try:
        found = metadata.entry_points()  # drops the second of two installations of one distribution, as importing does
        entries = [entry for group in KINDS.values() for entry in found.select(group=group)]
    except Exception:  # noqa: BLE001 - one unreadable file makes the whole call fail with whatever its parser raises
        return _read_one_by_one()
    return [record for entry in entries if (record := _record(entry)) is not None]


def _read_one_by_one() -> list[PluginRecord]:
    """As `_read`, distribution by distribution: an unreadable one becomes a record and hides no other."""
    records: list[PluginRecord] = []
    seen: set[str] = set()
    for distribution in metadata.distributions():
        name, version = _named(distribution)
        if normalized(name) in seen:  # the first on the path is the one that imports
            continue
        seen.add(normalized(name))
        try:
            entries = list(distribution.entry_points)
        except Exception as error:  # noqa: BLE001 - see _read
            records.extend(_unreadable(distribution, name, version, error))
            continue
        records.extend(record for entry in entries if (record := _record(entry, name, version)) is not None)
    return records


def _unreadable(distribution: metadata.Distribution, name: str, version: str, error: Exception) -> list[PluginRecord]:
    text = distribution.read_text("entry_points.txt") or ""
    return [
        PluginRecord(
            kind,
            UNREADABLE,
            name,
            version,
            module="",
            status="broken",
            problem=f"its entry_points.txt cannot be read: {type(error).__name__}: {error}",
            hint=f"reinstall or uninstall {name}, and tell its author",
        )
        for kind, group in KINDS.items()
        if f"[{group}]" in text
    ]


def _record(entry: metadata.EntryPoint, name: str | None = None, version: str | None = None) -> PluginRecord | None:
    kind = entry.group.removeprefix("amc_plugins.")
    if KINDS.get(kind) != entry.group:
        return None
    if name is None or version is None:
        name, version = _named(entry.dist)
    return PluginRecord(kind, entry.name, name, version, entry.value)


def _named(distribution: metadata.Distribution | None) -> tuple[str, str]:
    """Name and version; a distribution with damaged metadata is named after its folder."""
    if distribution is None:
        return ("unknown", "")
    name: str | None = distribution.metadata["Name"]
    version: str | None = distribution.metadata["Version"]
    if not name:
        folder = getattr(distribution, "_path", None)
        name = str(getattr(folder, "name", "unknown")).partition("-")[0]
    return (name, version or "")
