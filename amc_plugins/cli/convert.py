"""`amc convert`: a network file in another format, without the code of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import Json, SettingsOption, parse_settings
from amc_plugins.cli.networks import check_outputs, open_network

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Put the command into the command line."""
    app.command("convert")(convert)


def convert(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A .pkl, .json or .vnmodel file.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The file to write; its suffix says the format.")],
    settings: SettingsOption = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare what the new file computes with the network.")
    ] = True,
    json: Json = False,
) -> None:
    """Write a network file in another format.

    The Python code of the network is not needed. The settings are those of the format's exporter.

    \b
    amc convert net.vnmodel net.onnx
    amc convert net.pkl phone.onnx --set batch=1
    """
    from amc_plugins.core.engine import export

    ((exporter, path),) = check_outputs([target])
    network = open_network(source)
    written = export(network, exporter, path, verify=verify, **parse_settings(settings))
    size = written.stat().st_size
    if json:
        before = Path(source).stat().st_size
        found = {"source": source, "target": str(written), "exporter": exporter, "verified": verify}
        render.document({**found, "bytes_before": before, "bytes": size})
        return
    render.note(f"wrote {written} ({size:,} bytes)")
