"""Which modules, functions and tensor methods have handlers: the look-up that recording uses."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from amc_plugins.handlers import LayerHandler

__all__ = ["Claims"]


class Claims:
    """The captured names of all handlers, resolved to the objects they name.

    Only names whose top package is imported already are resolved: a handler for a library that the user's network
    does not use costs nothing.
    """

    def __init__(self, handlers: list[LayerHandler]) -> None:
        self._by_name: dict[str, LayerHandler] = {}
        self._modules: dict[type[nn.Module], LayerHandler] = {}
        for handler in handlers:
            for dotted in handler.spec.captures:
                name = dotted.replace(":", ".")
                self._by_name[name] = handler
                found = _resolve(name)
                if isinstance(found, type) and issubclass(found, nn.Module):
                    self._modules[found] = handler

    @classmethod
    def installed(cls) -> Claims:
        """Of every handler plugin that is installed and works."""
        from amc_plugins.core.registry import registry

        table = registry()
        return cls([table.handler(spec) for spec in table.handlers()])

    def for_module(self, module: nn.Module) -> LayerHandler | None:
        """Exact class first, then the nearest base whose `forward` the class has not overridden."""
        kind = type(module)
        for base in kind.__mro__:
            handler = self._modules.get(base)
            if handler is not None:
                same = base is kind or getattr(kind, "forward", None) is getattr(base, "forward", base)
                return handler if same else None
        return None

    def is_leaf(self, module: nn.Module) -> bool:
        """Whether a call of this module is one node. Pre-hooks of the user change what goes in, so such a module is entered."""
        foreign = [
            hook for hook in module._forward_pre_hooks.values() if not (hasattr(hook, "remove") and hasattr(hook, "name"))
        ]
        return not foreign and self.for_module(module) is not None

    def for_function(self, name: str) -> LayerHandler | None:
        return self._by_name.get(name)


def _resolve(dotted: str) -> Any:
    parts = dotted.split(".")
    if parts[0] not in sys.modules:
        return None
    found: Any = sys.modules[parts[0]]
    for index, part in enumerate(parts[1:], 1):
        found = sys.modules.get(".".join(parts[: index + 1])) or getattr(found, part, None)
        if found is None:
            return None
    return found
