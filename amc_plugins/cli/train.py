"""`amc train` and `amc export`: retraining a network, and writing it in a form of choice."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import (
    DataSettings,
    FactorySettings,
    Input,
    Json,
    Network,
    Observers,
    Out,
    Seed,
    SettingsOption,
    Weights,
    complete,
    parse_settings,
)
from amc_plugins.cli.networks import check_outputs, loader, open_network, write_outputs
from amc_plugins.cli.progress import working

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Put the commands into the command line."""
    app.command("train")(train)
    app.command("export")(export)


def train(
    network: Network,
    trainer: Annotated[str, typer.Argument(metavar="TRAINER", autocompletion=complete("trainers"), help="A trainer plugin.")],
    train_data: Annotated[
        str, typer.Option("--train", metavar="FACTORY", help="Factory of the training data: batches of (input, label).")
    ],
    folder: Annotated[
        str, typer.Option("--folder", "-f", metavar="FOLDER", help="Keeps checkpoints; the same command goes on there.")
    ],
    validation: Annotated[
        str | None,
        typer.Option("--validation", metavar="FACTORY", help="Data that chooses the best epoch; never the test set."),
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", metavar="FILE", help="A network to learn from.")] = None,
    settings: SettingsOption = None,
    inputs: Input = None,
    weights: Weights = None,
    network_set: FactorySettings = None,
    data_set: DataSettings = None,
    seed: Seed = 0,
    observer: Observers = None,
    output: Out = None,
    json: Json = False,
) -> None:
    """Retrain a network, usually after a compression.

    \b
    amc train smaller.pkl supervised --train data.py:train --validation data.py:validation \\
        --set epochs=5 --folder runs/retrained -o retrained.pkl
    """
    from amc_plugins.core import engine
    from amc_plugins.core.registry import registry

    given = parse_settings(settings)
    registry().create("trainers", trainer, given)  # refused before anything is computed
    outputs = check_outputs(output)
    before = open_network(network, inputs=inputs, weights=weights, settings=network_set, seed=seed)
    taught_by = None if teacher is None else open_network(teacher)
    batches = loader(train_data, data_set, seed)
    held_out = None if validation is None else loader(validation, data_set, seed)
    go_on = f"the same command goes on after the last finished epoch, from the checkpoints in {folder}"
    with working(f"train {network}", json=json, folder=folder, go_on=go_on, observers=observer) as run:
        result = engine.train(
            before,
            trainer,
            train=batches,
            validation=held_out,
            teacher=taught_by,
            seed=seed,
            run=run,
            resume=True,
            **given,
        )
    files = write_outputs(result.network, outputs)  # type: ignore[arg-type]
    if json:
        found = {"network": network, "trainer": trainer, "epochs": result.epochs, "best_epoch": result.best_epoch}
        history = {"metrics": result.metrics, "history": result.history}
        render.document({**found, **history, "files": [str(path) for path in files]})
        return
    _print_history(result.history, result.best_epoch)
    if not files:
        render.note(f"the network was written nowhere but in the checkpoints of {folder}; -o names a file")


def export(
    network: Network,
    exporter: Annotated[
        str, typer.Argument(metavar="EXPORTER", autocompletion=complete("exporters"), help="An exporter plugin.")
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="PATH", help="The file; the exporter's suffix is added to a name without one."),
    ],
    settings: SettingsOption = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Read the file back and compare the outputs.")] = True,
    inputs: Input = None,
    weights: Weights = None,
    network_set: FactorySettings = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write a network in an exporter's form.

    The file is read back and its outputs are compared with the network's. Where settings change
    these (`storage=int8` rounds the weights), the file is compared with what was to be written,
    and a warning says by how much that differs.

    \b
    amc export retrained.pkl vnmodel -o net.vnmodel --set model_base_size_hw=[224,224]
    """
    from amc_plugins.core import engine
    from amc_plugins.core.registry import registry

    given = parse_settings(settings)
    registry().create("exporters", exporter, given)
    opened = open_network(network, inputs=inputs, weights=weights, settings=network_set, seed=seed)
    path = engine.export(opened, exporter, Path(output), verify=verify, **given)
    if json:
        render.document({"exporter": exporter, "file": str(path), "bytes": path.stat().st_size, "verified": verify})
    else:
        checked = ", read back and checked" if verify else ", not checked"
        render.text(f"{path}  {path.stat().st_size:,} bytes{checked}")


def _print_history(history: list[dict[str, float]], best: int) -> None:
    names = list(dict.fromkeys(name for entry in history for name in entry))
    rows = []
    for epoch, entry in enumerate(history, 1):
        cells = [f"{entry[name]:.4g}" if name in entry else "" for name in names]
        rows.append([str(epoch), *cells, "best" if epoch == best else ""])
    render.table(["epoch", *names, "kept"], rows, right=["epoch", *names])
