"""Writes down which plugin distributions a process uses. Standard library only: it is imported at start-up, by a path file.

`MATRIX_RECORD` names the file; a line is `<who>\t<distribution>`. Who is `MATRIX_OWNER`: the running test, or a fixture that
several tests share; subprocesses inherit it. Used is what is asked for by name or op, and what a recorded call belongs to; that
the registry loads every plugin to choose from them is no use of them, and is written down as `*`: such a
test could notice that something is absent.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_inside = threading.local()
_written: set[tuple[str, str]] = set()


def note(what: str) -> None:
    who = os.environ.get("MATRIX_OWNER")
    if not who or (who, what) in _written:
        return
    _written.add((who, what))
    with open(os.environ["MATRIX_RECORD"], "a", encoding="utf-8") as file:
        file.write(f"{who}\t{what}\n")


def _note_spec(registry: Any, spec: Any) -> None:
    record = registry.owner(spec)
    if record is not None:
        note(record.distribution)


def _choosing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inside, plugins are looked at, not used."""

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        note("*")
        before = getattr(_inside, "depth", 0)
        _inside.depth = before + 1
        try:
            return function(*args, **keywords)
        finally:
            _inside.depth = before

    return call


def _patch_registry(module: ModuleType) -> None:
    registry = module.Registry
    for name in ("load_all", "specs", "handlers", "_load", "records"):
        setattr(registry, name, _choosing(getattr(registry, name)))
    registry.spec = using(registry.spec, lambda found, self, *_: _note_spec(self, found))
    registry.target = using(registry.target, lambda found, self, spec: _note_spec(self, spec))
    registry.handler_for_op = using(registry.handler_for_op, lambda found, self, op: _note_spec(self, found.spec))


def _patch_claims(module: ModuleType) -> None:
    def tell(found: Any, *_: Any) -> None:
        if found is not None and hasattr(found, "spec"):
            from amc_plugins.core.registry import registry

            _note_spec(registry(), found.spec)

    claims = module.Claims
    claims.installed = classmethod(_choosing(claims.installed.__func__))
    claims.for_module = using(claims.for_module, tell)
    claims.for_function = using(claims.for_function, tell)


def _patch_discovery(module: ModuleType) -> None:
    setattr(module, "discover", _choosing(module.discover))  # noqa: B010 - no attribute of modules in general


_PATCHES = {
    "amc_plugins.core.registry": _patch_registry,
    "amc_plugins.core.claims": _patch_claims,
    "amc_plugins.core.discovery": _patch_discovery,
}


class _Finder:
    """Patches a module of the framework when it is imported."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        patch = _PATCHES.get(name)
        if patch is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def using(function: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    """`function`, which tells `note` of its result and arguments, unless plugins are only being looked at."""

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        found = function(*args, **keywords)
        if not getattr(_inside, "depth", 0):
            note(found, *args)
        return found

    return call


def start() -> None:
    """Record from now on."""
    if os.environ.get("MATRIX_RECORD") and not any(isinstance(one, type) and one is _Finder for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder)


start()
