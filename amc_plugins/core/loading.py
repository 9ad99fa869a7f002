"""Imports the light modules of plugins one at a time and asks each for its declarations, through pluggy.

Pluggy's own bulk loader is not used: one bad entry aborts it and a duplicate name is dropped in silence. Here what goes wrong
in one module is a `LoadFailure` of that module; only KeyboardInterrupt passes.
"""

from __future__ import annotations

import importlib
import inspect
import threading
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import pluggy
from pydantic import ValidationError

from amc_plugins.core import hookspecs
from amc_plugins.core.discovery import KINDS, kind_word
from amc_plugins.core.errors import PluginError, nearest
from amc_plugins.core.hookspecs import PROJECT
from amc_plugins.core.specs import (
    AMC_API,
    CompressorSpec,
    ExporterSpec,
    LayerHandlerSpec,
    ObserverSpec,
    PluginSpec,
    TrainerSpec,
    TunerSpec,
)
from amc_plugins.core.validation import problem_lines

__all__ = ["OBSERVER_HOOKS", "LoadFailure", "ModuleLoader", "check_api", "check_observer", "import_target"]

_SPECS: dict[str, type[PluginSpec]] = {
    spec.kind: spec for spec in (LayerHandlerSpec, CompressorSpec, TunerSpec, TrainerSpec, ExporterSpec, ObserverSpec)
}
COLLECTING_HOOKS = {kind: f"amc_{kind}" for kind in KINDS}
OBSERVER_HOOKS = frozenset(name for name in vars(hookspecs) if name.startswith("amc_")) - set(COLLECTING_HOOKS.values())

_ARGUMENTS = "a hook may take any subset of the arguments in amc_plugins/core/hookspecs.py, and no others"

_Caught = (Exception, SystemExit)
"""What a plugin's code may raise without stopping anything else. `sys.exit` in a module raises what is no `Exception`."""


class LoadFailure(Exception):  # noqa: N818 - becomes the problem of a record, never reaches a user as an exception
    """Why a module, or one declaration, cannot be used."""

    def __init__(self, problem: str, hint: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


class ModuleLoader:
    """One pluggy manager, and every module imported and registered with it at most once, however many entries name it."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._modules: dict[str, ModuleType | LoadFailure] = {}
        self._declared: dict[tuple[str, str], list[PluginSpec] | LoadFailure] = {}
        self._lock = threading.RLock()

    def declarations(self, kind: str, value: str) -> list[PluginSpec]:
        """What the module `value` declares of one kind.

        Raises:
            LoadFailure: it cannot be imported, is no module, has hooks that do not exist, or returns something invalid.
        """
        with self._lock:
            found = self._declared.get((kind, value))
            if found is None:
                try:
                    found = self._collect(kind, self._module(value))
                except LoadFailure as failure:
                    found = failure
                self._declared[kind, value] = found
        if isinstance(found, LoadFailure):
            raise found
        return found

    def _module(self, value: str) -> ModuleType:
        found = self._modules.get(value)
        if found is None:
            try:
                found = _imported(value)
                self._register(found)
            except LoadFailure as failure:
                found = failure
            self._modules[value] = found
        if isinstance(found, LoadFailure):
            raise found
        return found

    def _register(self, module: ModuleType) -> None:
        if self._manager.is_registered(module):  # `pkg.plugin` and `pkg:plugin` are one module
            return
        try:
            self._manager.register(module)
        except _Caught as error:
            raise LoadFailure(
                f"`{module.__name__}` has an invalid hook: {' '.join(str(error).split())}",
                _ARGUMENTS,
            ) from error

    def _collect(self, kind: str, module: ModuleType) -> list[PluginSpec]:
        specs = self._call(kind, module)
        # A module for a later API may well use hooks that this core does not have; then the API is what there is to say.
        if any(spec.api > AMC_API for spec in specs):
            return specs
        if problems := _hook_problems(self._manager, module, COLLECTING_HOOKS.values()):
            raise LoadFailure("\n".join(problems), "rename or remove the hook; `amc_plugins.plugin` lists the hooks that exist")
        if not self._implements(COLLECTING_HOOKS[kind], module):
            raise LoadFailure(
                f"`{module.__name__}` has no hook `{COLLECTING_HOOKS[kind]}`, so it declares no {kind_word(kind)}",
                f"add `@hookimpl def {COLLECTING_HOOKS[kind]}()`, or take the entry out of `{KINDS[kind]}`",
            )
        return specs

    def _call(self, kind: str, module: ModuleType) -> list[PluginSpec]:
        others = [plugin for plugin in self._manager.get_plugins() if plugin is not module]
        hook = self._manager.subset_hook_caller(COLLECTING_HOOKS[kind], remove_plugins=others)
        specs: list[PluginSpec] = []
        try:
            for result in hook():
                items = [result] if isinstance(result, PluginSpec) else result
                if isinstance(items, str) or not isinstance(items, Iterable):
                    raise LoadFailure(_wrong_type(kind, result))
                for item in items:
                    if not isinstance(item, _SPECS[kind]):
                        raise LoadFailure(_wrong_type(kind, item))
                    specs.append(item)
        except LoadFailure:
            raise
        except ValidationError as error:
            lines = [f"  {line}" for line in problem_lines(error, _spec_named(error.title))]
            raise LoadFailure(
                "\n".join([f"invalid {error.title}:", *lines]),
                "correct the declaration; a plugin newer than this core needs `pip install -U amc-plugins`",
            ) from error
        except _Caught as error:
            raise LoadFailure(f"`{COLLECTING_HOOKS[kind]}` of `{module.__name__}` raised {_described(error)}") from error
        return specs

    def _implements(self, hook: str, module: ModuleType) -> bool:
        return any(impl.plugin is module for impl in getattr(self._manager.hook, hook).get_hookimpls())


def check_observer(observer: object) -> None:
    """Check the hooks of an observer before it is part of a run.

    Raises:
        LoadFailure: a hook does not exist, lacks the marker, or takes an argument that it is not told.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(observer)
    except pluggy.PluginValidationError as error:
        raise LoadFailure(f"it has an invalid hook: {' '.join(str(error).split())}", _ARGUMENTS) from error
    if problems := _hook_problems(manager, observer, OBSERVER_HOOKS):
        raise LoadFailure("\n".join(problems), f"the hooks of observers are {', '.join(sorted(OBSERVER_HOOKS))}")


def _hook_problems(manager: pluggy.PluginManager, plugin: object, allowed: Iterable[str]) -> list[str]:
    """Hooks that would silently never be called: misspelt, without the marker, or in the wrong place."""
    known = set(allowed)
    owner = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__name__
    members = vars(plugin) if isinstance(plugin, ModuleType) else dict(inspect.getmembers(type(plugin)))
    callers = {caller.name: caller for caller in manager.get_hookcallers(plugin) or ()}
    problems = [
        f"`{name}` of `{owner}` is told to observers only: put it into the target class of an ObserverSpec"
        if name in OBSERVER_HOOKS
        else f"`{name}` of `{owner}` is not a hook{nearest(name, known, most=1)}"
        for name in sorted(set(callers) - known)
    ]
    for name, function in members.items():
        if name in callers or not name.startswith("amc_") or not inspect.isfunction(function):
            continue
        own = not isinstance(plugin, ModuleType) or function.__module__ == owner
        if own and get_close_matches(name, known, n=1, cutoff=0.85):
            meant = "" if name in known else nearest(name, known, most=1)
            problems.append(f"`{name}` of `{owner}` lacks the @hookimpl marker{meant}")
    return problems


def check_api(spec: PluginSpec, distribution: str) -> None:
    """Refuse a declaration that this core cannot run: the major version must be equal, the minor not above the core's.

    Raises:
        LoadFailure: says which side to upgrade.
    """
    major, minor = spec.api
    if major == AMC_API[0] and minor <= AMC_API[1]:
        return
    late = "amc-plugins" if spec.api > AMC_API else distribution
    raise LoadFailure(
        f"it is written for plugin API {major}.{minor}, this core has {AMC_API[0]}.{AMC_API[1]}", f"pip install -U {late}"
    )


def import_target(path: str) -> Any:
    """The object that `package.module:attribute` names.

    Raises:
        PluginError: the path is malformed, the import fails (also by `sys.exit`), or there is no such attribute.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise PluginError(f"`{path}` does not name anything", hint="write package.module:attribute")
    try:
        found: Any = importlib.import_module(module_name)
    except _Caught as error:
        raise PluginError(f"importing `{module_name}` raised {_described(error)}") from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise PluginError(f"`{module_name}` has no `{attribute}`{nearest(attribute, vars(found))}") from error
    return found


def _imported(value: str) -> ModuleType:
    """The module of an entry point's value: `pkg.mod`, or `pkg:mod`; extras in brackets are ignored."""
    module_name, _, attribute = value.partition("[")[0].strip().partition(":")
    try:
        found: Any = importlib.import_module(module_name.strip())
        for name in filter(None, attribute.strip().split(".")):
            found = getattr(found, name)
    except _Caught as error:
        raise LoadFailure(f"importing `{value}` raised {_described(error)}", _import_hint(error)) from error
    if not isinstance(found, ModuleType):
        raise LoadFailure(
            f"its entry point names `{value}`, which is a {type(found).__name__}; it must name a module",
            f"write `{module_name}`, the module whose hooks declare the plugin",
        )
    return found


def _import_hint(error: BaseException) -> str | None:
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "amc_plugins":
        return "it was written for another version of the framework: pip install -U amc-plugins"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"install what provides `{error.name}`, or reinstall the distribution with its dependencies"
    return None


def _described(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _wrong_type(kind: str, item: object) -> str:
    given = f"{item!r:.80} ({type(item).__name__})"
    return f"`{COLLECTING_HOOKS[kind]}` returned {given} where a {_SPECS[kind].__name__} is expected"


def _spec_named(title: str) -> type[PluginSpec] | None:
    return next((spec for spec in _SPECS.values() if spec.__name__ == title), None)
