"""Where in the user's code something happens, and what would serve there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["is_asked_by_user", "shortest_handler", "user_line"]


def user_line() -> str | None:
    """`file.py:12` of the innermost frame that is neither torch's nor the framework's; None where `amc` runs it all."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("amc_plugins.cli."):
            return None
        if module != "torch" and not module.startswith(("torch.", "amc_plugins.core.", "amc_op_", "contextlib")):
            return f"{frame.f_code.co_filename.replace(chr(92), '/').rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def is_asked_by_user() -> bool:
    """Whether it is the user's code, not torch's or the framework's, that compares or converts a traced number right now."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "amc_plugins.core.tracing":
        frame = frame.f_back  # type: ignore[assignment]
    return frame is None or not frame.f_globals.get("__name__", "").startswith(("torch.", "amc_plugins.core.", "amc_op_"))


def shortest_handler(target: str, call: Callable[..., Any]) -> str:
    """The least that a user can write for an op without a handler, in words."""
    if isinstance(call, nn.Module):
        one_line = f'transparent("{target}") if it is element-wise, barrier("{target}", why=...) to stop there'
        return f"one line in a plugin serves: {one_line}"
    return f'write a LayerHandler with captures=("{target}",), or capture with strict=False to keep it as an opaque node'
