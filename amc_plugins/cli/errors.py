"""What a failed command prints and returns: `error:` and `hint:`, a traceback only with `--debug`.

Exit codes: 0 done; 1 the work ran and the answer is no; 2 bad input, a refusal or an internal failure; 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

import typer

from amc_plugins.cli import render
from amc_plugins.cli.state import options
from amc_plugins.core.discovery import discover
from amc_plugins.core.errors import AmcError

__all__ = ["CLI_ERROR", "INTERRUPTED", "Interrupted", "report"]

INTERRUPTED = 130
REFUSED = 2
UNREAD = 141
"""Whoever reads the data has seen enough; what a shell gives for programs that SIGPIPE ends."""

CLI_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises for a wrong command line: the base of its usage errors (it comes from click or from typer's own copy)."""


class Interrupted(AmcError):  # noqa: N818 - an event, not a mistake
    """Ctrl-C in work that can go on; the hint says how."""

    exit_code = INTERRUPTED


def report(error: BaseException) -> int:
    """Print what the person at the terminal needs to know of `error`; returns the exit code."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        render.error("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return UNREAD
    if isinstance(error, CLI_ERROR):
        return _usage(error)
    if options().debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, AmcError):
        render.error(str(error), error.hint)
        return error.exit_code
    if (problems := _validation_problems(error)) is not None:
        render.error(problems, None if options().debug else "`amc --debug ...` shows where it was raised")
        return REFUSED
    if isinstance(error, OSError) and error.filename is not None:
        render.error(f"{error.strerror or type(error).__name__}: `{error.filename}`")
        return REFUSED
    return _unexpected(error)


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # not an error: a group without a command shows its help
        render.text(error.format_message())
        return 0
    context = getattr(error, "ctx", None)
    render.error(error.format_message(), f"{context.command_path} --help" if context is not None else None)
    return REFUSED


def _validation_problems(error: BaseException) -> str | None:
    """The problems of a pydantic error, one a line; None for other errors. Where pydantic is not imported, it did not raise."""
    if "pydantic" not in sys.modules:
        return None
    from pydantic import ValidationError

    from amc_plugins.core.validation import problem_lines

    if not isinstance(error, ValidationError):
        return None
    return "\n".join([f"invalid {error.title}:", *(f"  {line}" for line in problem_lines(error))])


def _unexpected(error: BaseException) -> int:
    what = " ".join(str(error).split())
    message = f"{type(error).__name__}: {what}" if what else type(error).__name__
    if damaged := [record for record in discover() if record.status == "broken"]:
        # importlib.metadata raises for everybody who asks for entry points, pydantic among them: the likely cause
        render.error(f"{damaged[0].distribution} is damaged: {damaged[0].problem}", damaged[0].hint)
        return REFUSED
    distribution = _culprit(error)
    again = "" if options().debug else "`amc --debug ...` shows the traceback"
    if distribution is None:
        render.error(f"internal failure: {message}", again or None)
    else:
        name, version = distribution
        out = f"without it: `amc --disable {name} ...`"
        render.error(f"the plugin distribution {name} {version} failed: {message}", "; ".join(filter(None, [again, out])))
    return REFUSED


def _culprit(error: BaseException) -> tuple[str, str] | None:
    """Name and version of the plugin distribution whose code raised `error`: the innermost frame that is a plugin's."""
    if "amc_plugins.core.registry" not in sys.modules:
        return None
    from amc_plugins.core.discovery import plugins

    owners = {record.module.partition(":")[0].partition(".")[0]: record for record in plugins() if record.module}
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        record = owners.get(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        found = record or found
    return None if found is None else (found.distribution, found.version)
