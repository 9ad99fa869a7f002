"""`amc bench`: networks timed in PyTorch and in the engines that they are deployed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import Input, Json, Network, NetworkSettings, Seed, Weights
from amc_plugins.cli.networks import open_network
from amc_plugins.core.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amc_plugins.core.bench import BenchRow

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Put the command into the command line."""
    app.command("bench")(bench)


def bench(
    network: Network,
    inputs: Input = None,
    weights: Weights = None,
    settings: NetworkSettings = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="FILE", help="The network after compression, side by side.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option("--engine", "-e", metavar="NAME", help="One engine of them all; repeatable.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", metavar="N", help="How many; repeatable. Default: 1, and 2.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples in a call.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", min=0.0, help="Of measuring, for each row.")] = 1.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Time a network where it is deployed.

    Latency (median and 95th percentile of calls), memory and size in PyTorch and in every engine that an installed exporter
    writes files for. Each has a process of its own; they take turns, and their outputs are compared.

    \b
    amc bench model.py:net --input 1x3x224x224
    amc bench before.pkl --compare after.vnmodel --threads 1
    """
    from amc_plugins.core.bench import bench as measured

    if compare is not None and ":" in compare:
        raise SettingsError(f"--compare takes a file, given was `{compare}`", hint="`amc compress ... -o FILE` writes one")
    first = open_network(network, inputs=inputs, weights=weights, settings=settings, seed=seed)
    networks = {"network": first} if compare is None else {"before": first, "after": open_network(compare)}
    rows = measured(networks, names=engine, threads=threads or (1, 2), batch=batch, seconds=seconds)
    if json:
        render.document({"network": network, "compare": compare, "rows": [row.plain() for row in rows]})
        return
    if compare is None:
        _print_one(rows)
    else:
        _print_both(rows)


def _print_one(rows: Sequence[BenchRow]) -> None:
    eager = {row.threads: row.median for row in rows if row.engine == "eager"}
    lines = [
        [
            row.title,
            str(row.threads),
            *map(_milliseconds, (row.median, row.p95, row.cpu)),
            _times(eager.get(row.threads), row.median),
            _megabytes(row.memory),
            _megabytes(row.file_bytes),
            _milliseconds(row.load),
            "" if row.error is None else f"{row.error:.0e}",
            row.reason,
        ]
        for row in rows
    ]
    columns = [
        *("engine", "threads", "median ms", "p95 ms", "CPU ms", "x eager", "memory MB", "file MB", "load ms", "differs", "note")
    ]
    render.table(columns, lines, right=columns[1:-1])


def _print_both(rows: Sequence[BenchRow]) -> None:
    pairs: dict[tuple[str, int], dict[str, BenchRow]] = {}
    for row in rows:
        pairs.setdefault((row.title, row.threads), {})[row.network] = row
    lines = []
    for (title, threads), pair in pairs.items():
        before, after = pair["before"], pair["after"]
        lines.append(
            [
                title,
                str(threads),
                *map(_milliseconds, (before.median, after.median)),
                _times(before.median, after.median),
                *map(_milliseconds, (before.p95, after.p95)),
                *map(_megabytes, (before.memory, after.memory, before.file_bytes, after.file_bytes)),
                before.reason or after.reason,
            ]
        )
    columns = [
        *("engine", "threads", "ms before", "ms after", "faster", "p95 before", "p95 after"),
        *("memory MB before", "memory MB after", "file MB before", "file MB after", "note"),
    ]
    render.table(columns, lines, right=columns[1:-1])


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"


def _megabytes(size: Any) -> str:
    return "" if size is None else f"{size / 1e6:.{1 if size >= 1e7 else 2}f}"


def _times(before: float | None, after: float | None) -> str:
    return "" if not before or not after else f"{before / after:.2f}x"
