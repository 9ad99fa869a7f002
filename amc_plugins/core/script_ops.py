"""From an object of a script to a declaration: what `amc.register`, `transparent` and `barrier` are given. Free of torch."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from amc_plugins.core.errors import PluginError, nearest
from amc_plugins.core.specs import AMC_API, LayerHandlerSpec

__all__ = ["Captured", "check_captures", "declared_handler", "dotted_name", "handler_spec"]

Captured = str | type[Any] | Callable[..., Any]
"""What is captured: `package.module:Class`, the dotted name of a function, or the class or function itself."""

_FILE_MODULE = re.compile(r"^_amc_file_[0-9a-f]{12}_")  # how the command line names the module of `model.py:factory`


def dotted_name(captured: Captured) -> str:
    """`package.module.Class` of what is captured, as recording sees it.

    Raises:
        PluginError: a class or function that is defined inside a function: no file could name it.
    """
    if isinstance(captured, str):
        return captured.replace(":", ".")
    overrides = sys.modules.get("torch.overrides")
    if overrides is not None and not isinstance(captured, type) and (found := overrides.resolve_name(captured)):
        return str(found)
    dotted = f"{getattr(captured, '__module__', None)}.{getattr(captured, '__qualname__', captured)}"
    if "<locals>" in dotted:
        raise PluginError(
            f"`{dotted}` is defined inside a function, where neither a file nor another process can find it",
            hint="define it at the top level of its module",
        )
    return dotted


def handler_spec(
    target: str,
    captures: Sequence[Captured],
    *,
    name: str | None = None,
    op: str | None = None,
    summary: str,
    replaces: Sequence[str] = (),
    options: dict[str, str] | None = None,
) -> LayerHandlerSpec:
    """A declaration whose name and op id follow from the first captured name where they are not given: `swish` and
    `my_pkg.swish` for `my_pkg.layers:Swish`.

    Raises:
        PluginError: the names do not make a declaration.
    """
    dotted = tuple(dotted_name(one) for one in captures)
    module, _, last = dotted[0].rpartition(".")
    name = name or _plain(last)
    try:
        return LayerHandlerSpec(
            name=name,
            op=op or f"{_package(module or last)}.{_plain(name)}",
            summary=summary,
            target=target,
            api=AMC_API,
            captures=dotted,
            replaces=tuple(replaces),
            options={"captures": dotted[0], **(options or {})},
        )
    except ValidationError as error:
        problems = "; ".join(f"`{one['loc'][0]}`: {one['msg']} (given {one['input']!r})" for one in error.errors())
        raise PluginError(
            f"`{dotted[0]}` makes no declaration: {problems}",
            hint='write the captured class as "package.module:Class"; `name=` and `op=` set the names',
        ) from error


def declared_handler(
    handler: type[Any],
    captures: Captured | Sequence[Captured] | None,
    *,
    name: str | None,
    op: str | None,
    replaces: Sequence[str],
) -> LayerHandlerSpec:
    """The declaration of a handler class; it captures its `module_class` unless told otherwise."""
    given: list[Captured]
    if captures is None:
        module_class = getattr(handler, "module_class", None)
        given = [] if module_class is None else [module_class]
    else:
        given = [captures] if isinstance(captures, str) or callable(captures) else list(captures)
    if not given:
        raise PluginError(
            f"`{handler.__name__}` does not say what it handles",
            hint=f'set its `module_class`, or write amc.register({handler.__name__}, captures="my_pkg.layers:MyLayer")',
        )
    told = (inspect.getdoc(handler) or "").partition("\n")[0].strip()
    where = re.sub(r"[^\w.]", "_", handler.__module__)
    return handler_spec(
        f"{where}:{handler.__name__}",
        given,
        name=name,
        op=op,
        summary=(told or f"handled by {handler.__name__}")[:120],
        replaces=replaces,
    )


def check_captures(spec: LayerHandlerSpec) -> None:
    """Raise `PluginError` for a captured name that its module, if it is imported already, does not have."""
    found: Any
    for dotted in (one.replace(":", ".") for one in spec.captures):
        parts = dotted.split(".")
        known = [count for count in range(1, len(parts)) if ".".join(parts[:count]) in sys.modules]
        if not known or _unfinished(found := sys.modules[".".join(parts[: known[-1]])]):
            continue  # it may come yet: it is looked up when a network is captured
        for place in range(known[-1], len(parts)):
            if not hasattr(found, parts[place]):
                raise PluginError(
                    f"`{'.'.join(parts[:place])}` has no `{parts[place]}`{nearest(parts[place], dir(found))}",
                    hint="a declaration captures a module class or a function by the name of where it is defined",
                )
            found = getattr(found, parts[place])


def _unfinished(module: Any) -> bool:
    """Whether a module is being run right now: what it lacks may stand further down."""
    return module.__name__ == "__main__" or bool(getattr(module.__spec__, "_initializing", False))


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")


def _package(module: str) -> str:
    """The first part of an op id: the top package, the file of a script or of `file.py:factory`."""
    top = _FILE_MODULE.sub("", module.partition(".")[0])
    if top == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        top = spec.name.partition(".")[0] if spec is not None else Path(file).stem if file else "main"
    return _plain(top) or "main"
