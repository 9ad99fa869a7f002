"""`amc recipe init`: a recipe to fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import complete, parse_settings
from amc_plugins.cli.completion import recipe_settings
from amc_plugins.core.errors import AmcError, UnknownPluginError

__all__ = ["add_to"]

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Put the group into the command line."""
    app.add_typer(group, name="recipe", help="Recipes: what `amc run` does, in one TOML file.")


@group.callback()
def _recipe() -> None:
    """Recipes: what `amc run` does, in one TOML file."""


@group.command("init")
def init(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write it; `-` for standard output.")] = "recipe.toml",
    compressor: Annotated[
        str | None,
        typer.Option(
            "--compressor", metavar="NAME", autocompletion=complete("compressors"), help="Default: the first installed."
        ),
    ] = None,
    tuner: Annotated[
        str | None,
        typer.Option("--tuner", metavar="NAME", autocompletion=complete("tuners"), help="Search for the ratios with it."),
    ] = None,
    trainer: Annotated[
        str | None,
        typer.Option("--trainer", metavar="NAME", autocompletion=complete("trainers"), help="Retrain with it."),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="NAME",
            autocompletion=complete("exporters"),
            help="An exporter; repeatable. Default: all whose files `amc` can read back.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="PATH=VALUE",
            autocompletion=recipe_settings,
            help="A value of the recipe by its dotted path; repeatable.",
        ),
    ] = None,
) -> None:
    """Write a recipe with every step, every setting, its meaning and its default.

    What must be filled in is there, for the steps that the options choose; all else is commented out.

    \b
    amc recipe init --compressor pruning --trainer supervised
    amc recipe init small.toml --tuner ga --set network.source=model.py:net --set compress.total=0.3
    """
    import tomllib

    from amc_plugins.cli.recipe_text import Chosen, recipe_text
    from amc_plugins.core.recipe import checked
    from amc_plugins.core.registry import registry

    path = Path(file)
    if file != "-" and path.exists():
        raise AmcError(
            f"`{file}` is there already; nothing is overwritten", hint="give another name: amc recipe init NAME.toml"
        )
    installed = sorted(spec.name for spec in registry().specs("compressors"))
    if compressor is None and not installed:
        raise UnknownPluginError("no compressor is installed", hint="pip install amc-pruning")
    exporters = export or [spec.name for spec in registry().specs("exporters") if getattr(spec, "loads", False)]
    for name in exporters:
        registry().spec("exporters", name)
    chosen = Chosen(compressor or installed[0], tuner, trainer, exporters, parse_settings(settings))
    text = recipe_text(chosen)
    checked(tomllib.loads(text), "with these options it")
    if file == "-":
        render.text(text.rstrip())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as written:
        written.write(text)
    render.text(file)
    if compressor is None and len(installed) > 1:
        others = ", ".join(name for name in installed if name != chosen.compressor)
        render.note(f"it compresses by {chosen.compressor}; --compressor chooses another: {others}")
    fill_in = "" if settings else "fill in the network and the data, then: "
    render.note(f"{fill_in}amc run {file} --dry-run")
