"""`amc new`: a plugin of one's own, complete, in one command."""

from __future__ import annotations

from typing import Annotated

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import Json

__all__ = ["WHAT", "add_to"]

WHAT = ("compressor", "tuner", "trainer", "exporter", "layer-handler", "observer")
"""What can be made: the templates of `amc_plugins.core.scaffold`."""


def add_to(app: typer.Typer) -> None:
    """Put the command into the command line."""
    app.command("new")(new)


def _complete(incomplete: str) -> list[str]:
    return [one for one in WHAT if one.startswith(incomplete)]


def new(
    what: Annotated[str, typer.Argument(metavar="WHAT", autocompletion=_complete, help=f"One of {', '.join(WHAT)}.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will type, for example `keep-first`.")],
    folder: Annotated[
        str | None, typer.Option("--folder", "-f", metavar="FOLDER", help="Where to write it; default: ./amc-NAME.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a plugin of your own: a small distribution that works.

    It installs with pip, passes its own tests and the conformance checks, and does something real; change it from there.
    """
    from amc_plugins.core.scaffold import write_distribution

    path = write_distribution(what, name, folder)
    files = sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file())
    if json:
        render.document({"folder": str(path), "files": files})
        return
    render.text(f"{path}:")
    for file in files:
        render.text(f"  {file}")
    render.text()
    for line in (f"cd {path}", "pip install -e '.[dev]'", f"amc plugins check {name}", "pytest"):
        render.text(line)
