"""The plugins of this process: loaded one by one when they are asked for, chosen by kind and name.

Nothing that one plugin does hides another: what goes wrong while it loads becomes the `problem` of its record, and is raised
only when somebody asks for that plugin.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from amc_plugins.core import discovery
from amc_plugins.core.discovery import KINDS, PluginRecord, discover, kind_word, listed, mark_conflict, normalized
from amc_plugins.core.errors import AmcError, PluginError, UnknownPluginError, nearest
from amc_plugins.core.handler_index import HandlerIndex, clash, index_handlers, superseded, winner_of
from amc_plugins.core.loading import LoadFailure, ModuleLoader, check_api, check_observer, import_target
from amc_plugins.core.refusals import no_handler, why_not
from amc_plugins.core.script_ops import check_captures
from amc_plugins.core.specs import LayerHandlerSpec, ObserverSpec, PluginSpec, Settings
from amc_plugins.core.validation import validated

if TYPE_CHECKING:
    from amc_plugins.handlers import LayerHandler

__all__ = ["SCRIPT", "Registry", "import_target", "registry", "reset_registry"]

logger = logging.getLogger(__name__)

SCRIPT = "this script"
"""The distribution of what `amc.register` adds."""


class Registry:
    """Records, and the declarations behind those that have been asked for.

    Args:
        records: what to choose from; None discovers what is installed. A registry owns its records and updates their status.
    """

    def __init__(self, records: Iterable[PluginRecord] | None = None) -> None:
        self._records = discover() if records is None else list(records)
        self._loader = ModuleLoader()
        self._declared: dict[tuple[str, str, str], PluginSpec] = {}
        self._scripted: dict[tuple[str, str, str], type[Any]] = {}  # classes that a script gave with their declarations
        self._settled: set[tuple[str, str]] = set()
        self._complete: set[str] = set()
        self._index: HandlerIndex | None = None
        self._overruled: list[PluginRecord] = []
        self._handlers: dict[str, LayerHandler] = {}
        self._warned: set[tuple[str, str, str]] = set()
        self._lock = threading.RLock()

    # --- what there is ------------------------------------------------------------------------------------------------

    def records(self, kind: str | None = None) -> list[PluginRecord]:
        """All records, or those of one kind, sorted by kind, name and distribution. Loads nothing."""
        return sorted((record for record in self._records if kind in (None, record.kind)), key=lambda record: record.key)

    def load_all(self, *, targets: bool = False) -> list[PluginRecord]:
        """Load every plugin that is not disabled and return all records; problems are in the records, nothing is raised.

        `targets` imports the classes behind the declarations as well, and with them torch.
        """
        for kind in KINDS:
            self._load_kind(kind)
        self._handler_index()
        for record in self.records() if targets else ():
            if record.status == "loaded":
                try:
                    self._imported(record, self._declared[record.key])
                except LoadFailure as failure:
                    record.mark("broken", failure.problem, failure.hint, failure.__cause__ or failure)
        return self.records()

    def owner(self, spec: PluginSpec) -> PluginRecord | None:
        """The record that a declaration came from, None when it is not of this registry."""
        return next((record for record in self._named(spec.kind, spec.name) if record.status == "loaded"), None)

    # --- declarations -------------------------------------------------------------------------------------------------

    def spec(self, kind: str, name: str) -> PluginSpec:
        """The declaration of one plugin; imports only the module that declares it (and its rivals', if there are any).

        Raises:
            UnknownPluginError: it is not installed, disabled, or in conflict; the hint is the way out.
            PluginError: it is broken; the message says why.
        """
        _check_kind(kind)
        self._settle(kind, name)
        record = next((record for record in self._named(kind, name) if record.status == "loaded"), None)
        if record is None:
            raise why_not(self._records, kind, name)
        return self._declared[record.key]

    def specs(self, kind: str) -> list[PluginSpec]:
        """The declarations of all usable plugins of one kind. What is broken or in conflict is skipped, with one WARNING."""
        _check_kind(kind)
        self._load_kind(kind)
        if kind == "layer_handlers":
            self._handler_index()
        self._warn(kind)
        return [self._declared[record.key] for record in self.records(kind) if record.status == "loaded"]

    def _warn(self, kind: str) -> None:
        for record in self.records(kind):
            if record.status in ("broken", "conflict") and record.key not in self._warned:
                self._warned.add(record.key)
                logger.warning("%s is skipped, it is %s: %s", record, record.status, record.problem)

    @property
    def observers(self) -> list[ObserverSpec]:
        """The declarations of all usable observers."""
        return cast("list[ObserverSpec]", self.specs("observers"))

    def register(self, spec: PluginSpec, target: type[Any] | None = None) -> None:
        """Add a plugin of the running script or notebook; a second registration of the same name replaces the first.

        Args:
            spec: the declaration.
            target: its class; by default what `spec.target` names.

        Raises:
            PluginError: the declaration is for another API, captures a name that does not exist, or claims a name, an op or a
                capture of an installed plugin that it does not replace. Nothing has changed then.
        """
        if not isinstance(spec, PluginSpec):
            raise PluginError(f"expected a declaration such as CompressorSpec(...), given was {type(spec).__name__}")
        record = PluginRecord(spec.kind, spec.name, SCRIPT, "", module=spec.target.partition(":")[0], status="loaded")
        try:
            check_api(spec, SCRIPT)
        except LoadFailure as failure:
            raise PluginError(f"{record}: {failure.problem}", hint=failure.hint) from failure
        if isinstance(spec, LayerHandlerSpec):
            check_captures(spec)
        with self._lock:
            self._settle(spec.kind, spec.name)
            claimed = [one for one in self._named(spec.kind, spec.name) if one.status != "disabled"]
            rivals = [one for one in claimed if one.distribution != SCRIPT]
            kept = [one for one in rivals if normalized(one.distribution) not in map(normalized, spec.replaces)]
            if kept:
                raise PluginError(
                    f"{kind_word(spec.kind)} `{spec.name}` is provided by {listed(kept)} already",
                    hint=f"choose another name, or declare replaces=({kept[0].distribution!r},)",
                )
            gone = {record.key}
            if isinstance(spec, LayerHandlerSpec):
                self._load_kind("layer_handlers")
                running = [one for one in self.records("layer_handlers") if one.status == "loaded" and one not in rivals]
                claims = [(one, cast("LayerHandlerSpec", self._declared[one.key])) for one in running]
                gone |= superseded((record, spec), claims)
            for one in rivals:
                one.mark("disabled", "replaced by a registration of this script")
            self._records = [*(one for one in self._records if one.key not in gone), record]
            self._declared[record.key] = spec
            self._scripted.pop(record.key, None)
            if target is not None:
                self._scripted[record.key] = target
            self._settled.add((spec.kind, spec.name))
            self._index = None
            self._handlers.clear()

    def registered(self) -> list[tuple[PluginSpec, type[Any] | None]]:
        """What `register` was given and holds, in its order: for another process."""
        with self._lock:
            mine = [one for one in self._records if one.distribution == SCRIPT]
            return [(self._declared[one.key], self._scripted.get(one.key)) for one in mine]

    # --- code ---------------------------------------------------------------------------------------------------------

    def target(self, spec: PluginSpec) -> type[Any]:
        """The class behind a declaration, imported on first use.

        Raises:
            PluginError: it cannot be imported or is no class; names the plugin, its distribution and version.
        """
        record = self.owner(spec)
        try:
            return self._imported(record, spec)
        except LoadFailure as failure:
            who = record or f"{kind_word(spec.kind)} `{spec.name}` (not registered)"
            raise PluginError(f"{who} is broken: {failure.problem}", hint=failure.hint) from (failure.__cause__ or failure)

    def _imported(self, record: PluginRecord | None, spec: PluginSpec) -> type[Any]:
        try:
            held = None if record is None else self._scripted.get(record.key)
            found = import_target(spec.target) if held is None else held
        except PluginError as error:
            installed = record is not None and record.distribution != SCRIPT
            hint = f"reinstall {record.distribution} with its dependencies" if record and installed else error.hint
            raise LoadFailure(str(error), hint) from (error.__cause__ or error)
        if not isinstance(found, type):
            problem = f"its target `{spec.target}` is a {type(found).__name__}, expected a class"
            raise LoadFailure(problem, "correct the `target` of its declaration")
        return found

    def create(self, kind: str, name: str, settings: Mapping[str, Any] | Settings) -> tuple[Settings, type[Any]]:
        """The validated settings of a plugin and its class. Settings are checked before the class is imported.

        Raises:
            SettingsError: lists every problem at once: the field's path, what is wrong, the nearest valid names.
            PluginError: see `spec` and `target`.
        """
        spec = self.spec(kind, name)
        model: type[Settings] = getattr(spec, "settings", Settings)
        hint = f"amc plugins show {name} --kind {kind}"
        return validated(model, settings, what=f"settings of {kind_word(kind)} `{name}`", hint=hint), self.target(spec)

    def make_observers(self, names: Iterable[str], settings: Mapping[str, Mapping[str, Any]] | None = None) -> list[Any]:
        """New observers for one run, in the order of `names`; `settings` are by name.

        Raises:
            PluginError: one is unknown or broken, or its constructor fails.
            SettingsError: settings do not validate.
        """
        made = []
        for name in names:
            values, _ = self.create("observers", name, (settings or {}).get(name, {}))
            spec = self.spec("observers", name)
            made.append(self._made(spec, values))
            try:
                check_observer(made[-1])
            except LoadFailure as failure:
                raise PluginError(f"{self.owner(spec)} is broken: {failure.problem}", hint=failure.hint) from failure
        return made

    # --- layer handlers -----------------------------------------------------------------------------------------------

    def handlers(self) -> list[LayerHandlerSpec]:
        """The declarations of all layer handlers that work: every op and every captured name has one owner.

        Imports their code; what fails becomes the problem of its record, and is skipped with one WARNING.
        """
        with self._lock:
            index = self._handler_index()
            for spec in list(index.specs):
                record = self.owner(spec)
                try:
                    self.handler(spec)
                except PluginError as error:
                    assert record is not None, "an indexed declaration has a record"
                    record.mark("broken", _without(str(record), str(error)), error.hint, error.__cause__ or error)
                    index.drop(spec)
            self._warn("layer_handlers")
            return list(index.specs)

    def handler(self, spec: LayerHandlerSpec) -> LayerHandler:
        """The one instance of a handler."""
        return self.handler_for_op(spec.op)

    def handler_for_op(self, op: str) -> LayerHandler:
        """The handler of an op id.

        Raises:
            UnsupportedOpError: none runs; names the distribution to install, or why the installed one does not run.
            PluginError: its code cannot be imported.
        """
        found = self._handlers.get(op)
        if found is None:
            with self._lock:
                index = self._handler_index()
                spec = index.by_op.get(op)
                if spec is None:
                    declared = [one for one in self._declared.values() if isinstance(one, LayerHandlerSpec)]
                    raise no_handler(self._records, op, [one.name for one in declared if one.op == op], index.by_op)
                found = self._made(spec, spec)
                self._handlers[op] = found
        return found

    def _made(self, spec: PluginSpec, argument: object) -> Any:
        target = self.target(spec)
        try:
            return target(argument)
        except AmcError:
            raise
        except Exception as error:
            problem = f"{target.__name__}() raised {type(error).__name__}: {error}"
            raise PluginError(f"{self.owner(spec)} is broken: {problem}") from error

    def _handler_index(self) -> HandlerIndex:
        with self._lock:
            if self._index is None:
                self._load_kind("layer_handlers")
                for record in self._overruled:  # what an earlier index decided: a registration may have changed it
                    record.status, record.problem, record.hint = "loaded", None, None
                running = [record for record in self.records("layer_handlers") if record.status == "loaded"]
                declared = cast("dict[tuple[str, str, str], LayerHandlerSpec]", self._declared)
                self._index = index_handlers([(record, declared[record.key]) for record in running])
                for what, rivals in self._index.conflicts.items():
                    mark_conflict(rivals, clash(what, rivals))
                for loser, winner in self._index.replaced:
                    loser.mark("disabled", f"replaced by `{winner.name}` of {winner.source}")
                self._overruled = [record for record in running if record.status != "loaded"]
            return self._index

    # --- loading ------------------------------------------------------------------------------------------------------

    def _named(self, kind: str, name: str) -> list[PluginRecord]:
        return [record for record in self._records if record.kind == kind and record.name == name]

    def _load_kind(self, kind: str) -> None:
        if kind in self._complete:
            return
        for name in dict.fromkeys(record.name for record in self.records(kind)):
            self._settle(kind, name)
        self._complete.add(kind)

    def _settle(self, kind: str, name: str) -> None:
        """Load all that claim one name and give each its final status."""
        with self._lock:
            if (kind, name) in self._settled:
                return
            self._settled.add((kind, name))
            rivals = [record for record in self._named(kind, name) if record.status in ("available", "conflict")]
            for record in rivals:
                self._load(record)
            if len(rivals) == 1:
                return
            winner = winner_of([(record, self._replaces(record)) for record in rivals])
            for record in rivals:
                if winner is not None and record is not winner:
                    record.mark("disabled", f"replaced by {winner.source}")
                elif winner is not None:
                    record.status, record.problem, record.hint = "loaded", None, None

    def _load(self, record: PluginRecord) -> None:
        """Find the record's declaration; a record in conflict keeps its status."""
        try:
            declared = self._loader.declarations(record.kind, record.module)
            spec = self._own(record, declared)
            check_api(spec, record.distribution)
        except LoadFailure as failure:
            way_out = f"pip install -U {record.distribution}, or disable it: --disable {record.name}"
            record.mark("broken", failure.problem, failure.hint or way_out, failure.__cause__ or failure)
            return
        self._declared[record.key] = spec
        if record.status == "available":
            record.status = "loaded"

    def _own(self, record: PluginRecord, declared: list[PluginSpec]) -> PluginSpec:
        """The declaration of the entry's name; one that has no entry at all becomes a broken record of its own."""
        names = [spec.name for spec in declared]
        for name in dict.fromkeys(names):
            if all(one.key != (record.kind, name, record.key[2]) for one in self._records):
                extra = PluginRecord(record.kind, name, record.distribution, record.version, record.module)
                extra.mark(
                    "broken",
                    f"`{record.module}` declares it, but no entry point has its name",
                    f'add `{name} = "{record.module}"` to [project.entry-points."{KINDS[record.kind]}"], and install again',
                )
                self._records.append(extra)
                self._settled.add((record.kind, name))
        own = [spec for spec in declared if spec.name == record.name]
        if len(own) == 1:
            return own[0]
        if own:
            raise LoadFailure(f"`{record.module}` declares it {len(own)} times")
        listing = ", ".join(f"`{name}`" for name in names) or "nothing"
        raise LoadFailure(
            f"`{record.module}` does not declare it: of this kind it declares {listing}",
            "the name of the declaration must equal the name of the entry point",
        )

    def _replaces(self, record: PluginRecord) -> tuple[str, ...]:
        spec = self._declared.get(record.key)
        return () if spec is None else spec.replaces


def _without(who: str, message: str) -> str:
    return message.removeprefix(f"{who} is broken: ")


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise UnknownPluginError(f"there is no plugin kind `{kind}`{nearest(kind, KINDS)}", hint=f"the kinds are {known}")


@cache
def registry() -> Registry:
    """The registry of this process, made on first use."""
    made = Registry()
    discovery.show_live(made.records)
    return made


def reset_registry() -> None:
    """Forget the process's registry; the next `registry()` discovers again: what is disabled, or the path, has changed."""
    discovery.show_live(None)
    registry.cache_clear()
