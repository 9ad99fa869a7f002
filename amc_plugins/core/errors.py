"""Every error that the framework raises on purpose. Each says what was given, what was expected and, in `hint`, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "AmcError",
    "BudgetError",
    "CaptureError",
    "CheckFailed",
    "DocumentError",
    "GraphError",
    "PluginError",
    "RecipeError",
    "SettingsError",
    "SizeError",
    "UnknownPluginError",
    "UnsupportedOpError",
    "nearest",
]


class AmcError(Exception):
    """The root of the tree. `hint` is the next step for the person who reads the message.

    `exit_code` is what the command line returns: 2 for bad input or a refusal, 1 when the work ran and the answer is no.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class PluginError(AmcError):
    """A plugin could not be loaded, or it broke its contract."""


class UnknownPluginError(PluginError):
    """No plugin of that kind and name is installed, or it is disabled or in conflict."""


class SettingsError(AmcError, ValueError):
    """Settings or arguments are out of bounds, unknown, or not implemented yet."""


class RecipeError(SettingsError):
    """A recipe does not validate; the message lists every problem with its path in the file."""


class CaptureError(AmcError):
    """A network could not be recorded, or the record does not reproduce it."""


class GraphError(AmcError, ValueError):
    """An edit or a query does not fit the graph it was made on."""


class SizeError(AmcError, ValueError):
    """Inputs of a size for which the original may do something else than was recorded; names the line that asks for it."""


class DocumentError(AmcError, ValueError):
    """A graph document is malformed, inconsistent, or does not match its tensors."""


class UnsupportedOpError(AmcError):
    """An operation has no handler (or no emitter) where one is needed; names the op and its source line."""


class BudgetError(SettingsError):
    """A target cannot be met; the message gives the reachable range."""


class CheckFailed(AmcError):
    """The work ran to its end and the answer is no: a floor was missed or a verification failed."""

    exit_code = 1


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """`"; did you mean `a` or `b`?"` for the names in `known` that are close to `name`, or an empty string."""
    close = get_close_matches(name, list(known), n=most, cutoff=0.5)
    return "; did you mean " + " or ".join(f"`{match}`" for match in close) + "?" if close else ""
