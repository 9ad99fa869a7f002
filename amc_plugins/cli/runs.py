"""`amc run`, `amc report` and `amc demo`: whole recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import Json, parse_settings
from amc_plugins.cli.completion import recipe_settings
from amc_plugins.cli.networks import removed_share
from amc_plugins.cli.progress import quietly, resumable, step_lines, watching
from amc_plugins.core.errors import CheckFailed

if TYPE_CHECKING:
    from amc_plugins.core.recipe import Recipe
    from amc_plugins.core.results import Results

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command("run")(run)
    app.command("report")(report)
    app.command("demo")(demo)


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe: a .toml file.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="PATH=VALUE",
            autocompletion=recipe_settings,
            help="A value of the recipe by its dotted path: compress.total=0.3.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all that the run needs, print its steps and the recipe; write nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Run a recipe: capture to report.

    Captures, compresses and retrains in rounds, exports and reports, as the tables of a TOML file say: network, data,
    compress, tune, train, floor, export. A run that was interrupted goes on at the step where it stopped.

    \b
    amc run recipe.toml
    amc run recipe.toml --set compress.total=0.3 --set folder=runs/less --dry-run
    """
    from amc_plugins.core.recipe import read_recipe
    from amc_plugins.core.recipe import run as run_it
    from amc_plugins.core.results import read_results

    overrides = parse_settings(settings)
    checked = read_recipe(recipe, overrides)
    base = Path(recipe).resolve().parent
    folder = base / checked.folder
    if dry_run:
        _rehearsed(checked, base, json=json)
        return
    from amc_plugins.core.pipeline import done_before

    if before := done_before(checked, base):
        render.note(f"going on in {folder}: {', '.join(before)} done before")
    missed: CheckFailed | None = None
    go_on = f"finished steps are kept in {folder}, its log is log.txt; the same command goes on"
    with quietly(json), step_lines(json), resumable(go_on), watching(_evaluations(checked)) as observer:
        try:
            run_it(checked, base=base, observers=[observer])
        except CheckFailed as error:  # the answer is no: the figures are printed all the same
            missed = error
    results = read_results(folder)
    if json:
        plain = results.model_dump(mode="json", exclude={"version"})
        render.document({"folder": str(folder), **plain, "passed": missed is None})
    else:
        _print_steps(results)
    if missed is not None:
        raise missed


def report(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run or a search.")],
    json: Json = False,
) -> None:
    """Write the HTML report of a run or a search again.

    From what its folder holds; nothing is computed anew.

    \b
    amc report runs/demo/pruning
    """
    from amc_plugins.core.report import write_report

    path = write_report(Path(folder))
    if json:
        render.document({"report": str(path)})
    else:
        render.text(str(path))


def demo(
    folder: Annotated[str, typer.Option("--folder", "-f", metavar="FOLDER", help="Where everything goes.")] = "runs/demo",
    quick: Annotated[bool, typer.Option("--quick", help="A smaller network, trained less: under a minute.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was interrupted.")] = False,
    json: Json = False,
) -> None:
    """Show the main job on real images.

    Trains a small residual network on the digits of scikit-learn, prunes and decomposes it to half of its multiply-adds,
    retrains, exports to every format, reads the files back, and writes a report of each. An earlier demo in the folder is
    replaced.

    \b
    amc demo --folder runs/demo
    """
    from amc_plugins.cli import demo_text
    from amc_plugins.demo.work import Demo

    say = render.note if json else demo_text.said
    go_on = f"amc demo --folder {folder}{' --quick' if quick else ''} --resume"
    with quietly(json), resumable(go_on), watching() as observer:
        if not json:
            demo_text.opening(folder)
        result = Demo(Path(folder), quick=quick, say=say).run(resume=resume, observers=[observer])
    if json:
        render.document(demo_text.as_json(result))
    else:
        demo_text.print_result(result)


def _rehearsed(recipe: Recipe, base: Path, *, json: bool) -> None:
    """What the run would do: its steps as comments of the recipe with every default."""
    from dataclasses import asdict

    from amc_plugins.core.recipe import resolved
    from amc_plugins.core.rehearsal import rehearse
    from amc_plugins.core.toml_text import toml_text

    with render.progress("trying what the run needs"):
        steps = rehearse(recipe, base)
    if json:
        render.document({"steps": [asdict(step) for step in steps], "recipe": resolved(recipe)})
        return
    width = max(len(step.name) for step in steps)
    for step in steps:
        render.text(f"# {step.name:<{width}}  {'done before: ' if step.done else ''}{step.does}")
    render.text()
    render.text(toml_text(resolved(recipe)).rstrip())
    render.note(f"the recipe is valid; the run's folder would be {base / recipe.folder}")


def _evaluations(recipe: Recipe) -> int | None:
    return None if recipe.tune is None else recipe.tune.evaluations


def _print_steps(results: Results) -> None:
    measured = results.networks
    parts = list(dict.fromkeys(part for step in measured for part in step.accuracy))
    rows = []
    for step in measured:
        accuracies = [f"{step.accuracy[part]:.2%}" if part in step.accuracy else "" for part in parts]
        removed = removed_share(measured[0].macs, step.macs)
        rows.append([step.name, f"{step.macs:,}", removed, f"{step.parameters:,}", *accuracies, f"{step.seconds:.1f}"])
    columns = ["step", "MACs", "removed", "parameters", *parts, "seconds"]
    render.table(columns, rows, right=columns[1:])
    if results.stopped:
        render.text(f"\nno further round: {results.stopped}")
    files = [one for step in results.steps for one in step.files]
    if files:
        render.text()
        render.table(["file", "bytes"], [[one.path, f"{one.bytes:,}"] for one in files], right=["bytes"])
