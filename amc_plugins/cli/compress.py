"""`amc compress`: one network made smaller, by ratios that are given."""

from __future__ import annotations

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
    Out,
    Seed,
    SettingsOption,
    Threads,
    Total,
    Weights,
    complete,
    parse_ratios,
    parse_settings,
)
from amc_plugins.cli.networks import check_outputs, evaluation, loader, open_network, removed_share, write_outputs
from amc_plugins.cli.progress import working
from amc_plugins.core.errors import SettingsError

if TYPE_CHECKING:
    from amc_plugins.compression import CompressionResult
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["Method", "add_to", "one_method", "opened", "print_result", "result_json"]


def add_to(app: typer.Typer) -> None:
    """Put the command into the command line."""
    app.command("compress")(compress)


Method = Annotated[
    str | None,
    typer.Argument(metavar="METHOD", autocompletion=complete("compressors"), help="A compressor plugin, or --compressor."),
]
Evaluate = Annotated[
    str | None,
    typer.Option(
        "--evaluate", metavar="FUNCTION", help="`file.py:function` of a network; its result is a score, higher is better."
    ),
]


def compress(
    network: Network,
    calibration: Calibration,
    method: Method = None,
    total: Total = None,
    ratio: Annotated[
        float | None, typer.Option("--ratio", "-r", metavar="SHARE", help="Share of each layer's MACs to remove.")
    ] = None,
    ratios: Annotated[
        list[str] | None,
        typer.Option("--ratios", metavar="GLOB=SHARE", help="Share by layer name or glob: 'layer1.*=0.3'; repeatable."),
    ] = None,
    allocation: Annotated[
        str,
        typer.Option("--allocation", metavar="HOW", help="How a total is spent: `curves` of the layers' errors, or `uniform`."),
    ] = "curves",
    budget: BudgetOption = "macs",
    batch: Batch = 1,
    threads: Threads = None,
    refit: Annotated[
        bool, typer.Option("--refit/--no-refit", help="Fit the layers once more, on the compressed network's own activations.")
    ] = True,
    compressor: CompressorOption = None,
    settings: SettingsOption = None,
    evaluate: Evaluate = None,
    inputs: Input = None,
    weights: Weights = None,
    network_set: FactorySettings = None,
    data_set: DataSettings = None,
    seed: Seed = 0,
    output: Out = None,
    json: Json = False,
) -> None:
    """Make a network need fewer multiply-adds.

    A total or a ratio is the share of the multiply-adds (MACs) that is removed, of the network or of each layer. A total may
    count something else, see --budget.

    \b
    amc compress net.pkl pruning --calibration data.py:train --total 0.5 -o smaller.pkl
    amc compress model.py:net lowrank --weights net.pt --input 1x3x224x224 \\
        --calibration data.py:train --ratios 'layer1.*=0.3' -o smaller.vnmodel
    """
    name = one_method(method, compressor)
    given = parse_settings(settings)
    how_much = {"total": total, "ratio": ratio, "ratios": parse_ratios(ratios)}
    _check_amount(how_much, given)
    outputs = check_outputs(output)
    before = opened(network, outputs, inputs, weights, network_set, seed)
    data = loader(calibration, data_set, seed)
    from amc_plugins.core import engine
    from amc_plugins.core.budgets import Budget

    counted = Budget(budget, batch, threads)
    with working(f"compress {network}", json=json, doing=f"compressing by {name}") as run:
        result = engine.compress(
            before,
            name,
            calibration=data,
            **how_much,  # type: ignore[arg-type]
            allocation=allocation,  # type: ignore[arg-type]
            budget=counted,
            refit=refit,
            seed=seed,
            evaluate=evaluation(evaluate),
            run=run,
            **given,
        )
    files = write_outputs(result.network, outputs)
    if json:
        render.document({"network": network, "method": name, **result_json(result), "files": [str(path) for path in files]})
        return
    print_result(result)
    if not files:
        render.note("nothing was written; -o names a file")


def one_method(argument: str | None, option: str | None) -> str:
    """The compressor, which is given as an argument or as an option."""
    if argument is not None and option is not None and argument != option:
        raise SettingsError(f"two compressors are given: `{argument}` and `--compressor {option}`")
    name = argument or option
    if name is None:
        raise SettingsError("no compressor is given", hint="`amc plugins list --kind compressors` shows what is installed")
    from amc_plugins.core.registry import registry

    registry().spec("compressors", name)  # unknown names are refused before anything is computed
    return name


def _check_amount(how_much: dict[str, Any], settings: dict[str, Any]) -> None:
    given = [f"--{name}" for name, value in how_much.items() if value is not None]
    given += ["--set compress_ratio"] if settings.get("compress_ratio") is not None else []
    if len(given) != 1:
        raise SettingsError(
            f"exactly one of --total, --ratio and --ratios is needed, given: {', '.join(given) or 'none'}",
            hint="--total 0.5 removes half of the network's MACs",
        )


def opened(
    source: str,
    outputs: list[tuple[str, Path]],
    inputs: list[str] | None,
    weights: str | None,
    settings: list[str] | None,
    seed: int,
) -> ReconstructedNetwork:
    """The network, refused at once if it could not be written at the end."""
    from amc_plugins.exporting import refuse_opaque

    network = open_network(source, inputs=inputs, weights=weights, settings=settings, seed=seed)
    for _, path in outputs:
        refuse_opaque(network, path.suffix)
    return network


# --- printing -----------------------------------------------------------------------------------------------------------


def result_json(result: CompressionResult) -> dict[str, Any]:
    """A compression's result as JSON data."""
    from dataclasses import asdict

    spent = result.spent
    return {
        "budget": None if spent is None else {**asdict(spent), "removed": spent.removed},
        "macs_before": result.macs_before,
        "macs_after": result.macs_after,
        "removed": result.removed,
        "candidate": dict(result.candidate),
        "layers": [asdict(one) for one in result.layers],
        "kept": result.kept,
    }


def print_result(result: CompressionResult) -> None:
    """A compression's result as a table, one row a layer that the method looked at."""
    rows = [
        [
            one.name,
            one.change or "as it was",
            f"{one.macs_before:,}",
            f"{one.macs_after:,}",
            removed_share(one.macs_before, one.macs_after),
            "" if one.error is None else f"{one.error:.2e}",
        ]
        for one in result.layers
    ]
    share = removed_share(result.macs_before, result.macs_after)
    rows.append(["network", "", f"{result.macs_before:,}", f"{result.macs_after:,}", share, ""])
    columns = ["layer", "change", "MACs before", "MACs after", "removed", "error"]
    render.table(columns, rows, right=columns[2:])
    if result.spent is not None and result.spent.counts != "macs":
        spent = result.spent
        how = f" (batch {spent.batch}, threads {spent.threads})" if spent.counts == "latency" else ""
        render.text(f"{spent.counts}{how}: {spent.shown}")
