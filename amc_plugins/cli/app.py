"""The entry `amc`: global options, the command groups, and the one place where errors become messages and exit codes.

A command group is one light module of this package with a function `add_to(app)`. Typer reads the signatures of commands, so
the modules are imported at start; what is heavy (torch, pydantic, plugins, rich) they import inside the functions. Plugin names
are arguments, never subcommands: help and completion need no plugin.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from amc_plugins import __version__
from amc_plugins.cli import bench, capture, check, compress, convert, doctor, new, plugins, recipe, render, runs, train, tune
from amc_plugins.cli.completion import to_disable, whole_words
from amc_plugins.cli.errors import INTERRUPTED, report
from amc_plugins.cli.plain_values import spare_conversions
from amc_plugins.cli.state import Options, apply

__all__ = ["app", "main", "run"]

GROUPS = (capture, doctor, compress, tune, train, convert, bench, runs, recipe, new, check, plugins)

app = typer.Typer(
    name="amc",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _group in GROUPS:
    _group.add_to(app)


def _show_version(value: bool) -> None:
    if value:
        render.text(f"amc {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
    disable: Annotated[
        list[str] | None,
        typer.Option(
            "--disable",
            metavar="NAME",
            autocompletion=to_disable,
            help="Leave out a plugin (name or kind:name) or a distribution; repeatable.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", envvar="AMC_DEBUG", help="Print the traceback of an error.")] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv for everything.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only, besides the data.")] = False,
) -> None:
    """Auto Model Compressor: make a trained PyTorch network need fewer multiply-adds, retrain it, export it."""
    given = Options(debug=debug, verbosity=-1 if quiet else verbose)
    context.call_on_close(apply(given, disable or []))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Nothing but SystemExit escapes."""
    apply(Options(), [])()  # what an earlier call in this process left
    command = typer.main.get_command(app)
    spare_conversions(command)
    try:
        with whole_words(os.environ):
            result = command.main(args=list(arguments), prog_name="amc", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - reported, with the exit code that says what it was
        return report(error)
    if result == INTERRUPTED:  # typer turns Ctrl-C into this exit code without a word
        return report(KeyboardInterrupt())
    return result if isinstance(result, int) else 0


def main() -> None:
    """What the script `amc` calls."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `amc profile ... | head`: nobody reads on, and Python would complain at its own flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
