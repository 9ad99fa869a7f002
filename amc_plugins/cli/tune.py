"""`amc tune`: the ratios of a compression, searched for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import (
    Batch,
    BudgetOption,
    Calibration,
    CompressorOption,
    DataSettings,
    FactorySettings,
    Input,
    Json,
    Network,
    Observers,
    Out,
    Seed,
    SettingsOption,
    Threads,
    Weights,
    complete,
    parse_settings,
)
from amc_plugins.cli.completion import tuner_settings
from amc_plugins.cli.compress import Method, one_method, opened, print_result, result_json
from amc_plugins.cli.networks import check_outputs, evaluation, loader, write_outputs
from amc_plugins.cli.progress import working

if TYPE_CHECKING:
    from amc_plugins.core.search import Evaluation, Search

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Put the command into the command line."""
    app.command("tune")(tune)


def tune(
    network: Network,
    tuner: Annotated[str, typer.Option("--tuner", metavar="NAME", autocompletion=complete("tuners"), help="A tuner plugin.")],
    calibration: Calibration,
    total: Annotated[
        float,
        typer.Option("--total", "-t", metavar="SHARE", help="Share of the network's MACs to remove, 0 to 1; see --budget."),
    ],
    folder: Annotated[
        str, typer.Option("--folder", "-f", metavar="FOLDER", help="Keeps every score; the same command goes on there.")
    ],
    method: Method = None,
    budget: BudgetOption = "macs",
    batch: Batch = 1,
    threads: Threads = None,
    evaluate: Annotated[
        str,
        typer.Option(
            "--evaluate",
            metavar="HOW",
            help="What to maximise: minus the `divergence` of the outputs from the original's, the `accuracy` on --data, or "
            "`file.py:function` of a network.",
        ),
    ] = "divergence",
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FACTORY", help="What to score on: inputs, or labelled batches for `accuracy`."),
    ] = None,
    confirm: Annotated[
        int, typer.Option("--confirm", metavar="N", help="Score the N best again on data that the search has not seen.")
    ] = 3,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Processes that score.")] = 1,
    evaluations: Annotated[
        int, typer.Option("--evaluations", "-n", metavar="N", help="How many different candidates to score.")
    ] = 100,
    compressor: CompressorOption = None,
    settings: SettingsOption = None,
    tuner_set: Annotated[
        list[str] | None,
        typer.Option(
            "--tuner-set", metavar="KEY=VALUE", autocompletion=tuner_settings, help="A setting of the tuner; repeatable."
        ),
    ] = None,
    inputs: Input = None,
    weights: Weights = None,
    network_set: FactorySettings = None,
    data_set: DataSettings = None,
    seed: Seed = 0,
    observer: Observers = None,
    output: Out = None,
    json: Json = False,
) -> None:
    """Search for the best ratios of a compression.

    The winner is the candidate that does best on data that the search has not seen. Every score is kept in the folder:
    a search that was interrupted goes on with the same command. Its report is written there too.

    \b
    amc tune net.pkl lowrank --tuner random --total 0.5 --evaluations 50 \\
        --calibration data.py:train --folder runs/search -o best.pkl
    """
    name = one_method(method, compressor)
    settings_given, tuner_given = parse_settings(settings), parse_settings(tuner_set, "--tuner-set")
    outputs = check_outputs(output)
    before = opened(network, outputs, inputs, weights, network_set, seed)
    inputs_to_fit = loader(calibration, data_set, seed)
    scored_on = None if data is None else loader(data, data_set, seed)
    objective: Any = evaluation(evaluate) if ":" in evaluate else evaluate
    from amc_plugins.core import engine
    from amc_plugins.core.budgets import Budget
    from amc_plugins.core.preparation import forget
    from amc_plugins.core.search_run import check_search_folder, keep_search

    counted = Budget(budget, batch, threads)
    go_on = f"the scores so far are in {folder}; the same command goes on with the next one"
    doing = f"preparing {name}"
    kept, started = Path(folder), time.perf_counter()
    check_search_folder(kept)
    shown: dict[str, Any] = {"json": json, "evaluations": evaluations, "go_on": go_on, "doing": doing}
    with working(f"tune {network}", folder=folder, observers=observer, **shown) as run:
        plan = engine.prepare(
            before,
            name,
            calibration=inputs_to_fit,
            seed=seed,
            budget=total if budget == "macs" else None,
            run=run,
            **settings_given,
        )
        search = engine.tune(
            plan,
            tuner,
            total=total,
            budget=counted,
            evaluate=objective,
            data=scored_on,
            evaluations=evaluations,
            confirm=confirm,
            workers=workers,
            seed=seed,
            folder=folder,
            run=run,
            **tuner_given,
        )
        result = engine.apply_plan(plan, search.best.candidate, run=run, budget=counted)
        recipe: dict[str, Any] = {
            "seed": seed,
            "network": {"source": network, "weights": weights, "input": inputs, "settings": parse_settings(network_set)},
            "data": {"calibration": calibration, "validation": data, "settings": parse_settings(data_set)},
            "compress": {"method": name, "total": total, "budget": budget, "settings": settings_given},
            "tune": {"method": tuner, "objective": evaluate, "evaluations": evaluations, "settings": tuner_given},
        }
        seconds = time.perf_counter() - started
        report = keep_search(kept, f"{network}: {name}, ratios by {tuner}", recipe, search, result, seconds)
        run.artifact_written(report)
    forget(kept)
    files = write_outputs(result.network, outputs)
    if json:
        found = {"network": network, "method": name, "tuner": tuner, **_search_json(search), **result_json(result)}
        render.document({**found, "report": str(report), "files": [str(path) for path in files]})
        return
    _print_search(search, report)
    print_result(result)
    if not files:
        render.note("nothing was written; -o names a file")


def _search_json(search: Search) -> dict[str, Any]:
    best = search.best
    return {
        "total": search.total,
        "objective": search.objective,
        "best": {"score": best.score, "confirmed": None if best.confirmed is None else best.confirmed.score},
        "evaluations": [_plain(one) for one in search.evaluations],
        "baselines": {name: _plain(one) for name, one in search.baselines.items()},
        "confirmed": [_plain(one) for one in search.confirmed],
        "gains": search.gains,
    }


def _plain(one: Evaluation) -> dict[str, Any]:
    return {"candidate": dict(one.candidate), "objectives": dict(one.objectives)}


def _print_search(search: Search, report: Path) -> None:
    best = search.best
    position = 1 + next(i for i, one in enumerate(search.evaluations) if one is best.evaluation)
    pairs = [
        ("tuner", search.tuner),
        ("objective", search.objective),
        ("candidates", f"{len(search.evaluations):,} scored"),
        ("best", f"{best.score:.6g} (candidate {position})"),
    ]
    if best.confirmed is not None:
        pairs.append(("  unseen data", f"{best.confirmed.score:.6g}"))
    if lucky := len(search.lucky()):
        pairs.append(("  by chance", f"{lucky} scored higher there than the better baseline, by two standard errors at most"))
    for name, gain in search.gains.items():
        pairs.append((f"  above {name}", f"{gain:.6g}"))
    pairs.append(("report", str(report)))
    render.fields(pairs)
    render.text()
