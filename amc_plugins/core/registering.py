"""`amc.register`: plugins of a script or notebook, which need no distribution."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from amc_plugins.core.errors import PluginError
from amc_plugins.core.registry import registry
from amc_plugins.core.script_ops import Captured, declared_handler
from amc_plugins.core.specs import PluginSpec

__all__ = ["register"]

T = TypeVar("T")


def register(
    plugin: T,
    *,
    captures: Captured | Sequence[Captured] | None = None,
    name: str | None = None,
    op: str | None = None,
    replaces: Sequence[str] = (),
) -> T:
    """Add a plugin of the running script or notebook to this process; registered again, it replaces what it was.

        amc.register(transparent("my_pkg.layers:Swish"))       # or transparent(Swish)
        amc.register(SwishHandler)                             # a LayerHandler with a `module_class`; also as a decorator
        amc.register(RollHandler, captures="torch.roll")

    A file that holds the op loads where it is registered as well, so put the line beside the layer, in its module.

    Args:
        plugin: a declaration, or a `LayerHandler` class.
        captures: of a handler class: the module classes and functions that it handles, as names or as they are. Default: its
            `module_class`.
        name: of a handler class; default: the last part of what it captures, in lower case.
        op: of a handler class: the op id in files; default `<top package>.<name>`.
        replaces: of a handler class: distributions whose handler it takes the place of.

    Returns:
        `plugin`.

    Raises:
        PluginError: it is no declaration, or claims what an installed plugin provides; see `Registry.register`.
    """
    given: Any = plugin
    told = {"captures": captures, "name": name, "op": op, "replaces": replaces or None}
    if isinstance(given, PluginSpec):
        if wrong := [key for key, value in told.items() if value is not None]:
            raise PluginError(f"{', '.join(wrong)}: only for a handler class, and given was a declaration, which has them")
        registry().register(given)
        return plugin
    handlers = sys.modules.get("amc_plugins.handlers")  # a handler class has imported it
    if handlers is None or not (isinstance(given, type) and issubclass(given, handlers.LayerHandler)):
        raise PluginError(
            f"expected a declaration such as CompressorSpec(...) or a LayerHandler class, given was {_described(given)}",
            hint='for example amc.register(transparent("my_pkg.layers:Swish"))',
        )
    registry().register(declared_handler(given, captures, name=name, op=op, replaces=replaces), given)
    return plugin


def _described(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
