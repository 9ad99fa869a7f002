"""`amc doctor NETWORK`: what can be compressed of a network, and what stands in the way."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import FactorySettings, Input, Json, Network, Seed, Weights
from amc_plugins.cli.networks import open_network

if TYPE_CHECKING:
    from amc_plugins.core.diagnosis import Diagnosis, LayerDiagnosis

__all__ = ["add_to"]

_NAMES = 3


def add_to(app: typer.Typer) -> None:
    """Put the command into the command line."""
    app.command("doctor")(doctor)


def doctor(
    network: Network,
    inputs: Input = None,
    weights: Weights = None,
    settings: FactorySettings = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say what can be compressed of a network, and what stands in the way.

    Per layer: whether smaller layers can replace it, which input channels can be removed and with which other layers, and what
    pins the rest. Then calls without a handler, with the shortest handler that would serve, and whether the network runs on
    another batch and another image size. Exit code 1 when a call has no handler or another batch size does not work.

    \b
    amc doctor model.py:net --input 1x3x224x224
    """
    from amc_plugins.core.diagnosis import diagnose

    found = diagnose(open_network(network, inputs=inputs, weights=weights, settings=settings, seed=seed))
    if json:
        render.document({"network": network, "healthy": found.healthy, **asdict(found)})
    else:
        _print(found)
    if not found.healthy:
        raise typer.Exit(1)


def _print(found: Diagnosis) -> None:
    rows = [[one.name, f"{one.macs:,}", one.decomposition or "yes", _pruning(one), one.source or ""] for one in found.layers]
    render.table(["layer", "MACs", "decomposed", "input channels pruned", "line"], rows, right=["MACs"])
    render.text()
    for trial in found.trials:
        shapes = ", ".join("x".join(map(str, shape)) for shape in trial.inputs)
        render.text(f"{trial.name} {shapes}: {'works' if trial.problem is None else trial.problem}")
    for call in found.opaque:
        render.text()
        render.text(f"no handler: {call.call} at {call.source or 'an unknown line'} ({call.name}); this would serve:")
        for line in call.handler.splitlines():
            render.text(f"    {line}")
    if any("(" in call.handler and not call.handler.startswith("class") for call in found.opaque):
        render.note("in a script: `amc.register(transparent(...))`; in a plugin: `yield transparent(...)` from the hook")


def _pruning(one: LayerDiagnosis) -> str:
    parts = []
    if one.prunable:
        parts.append(f"{one.prunable}" + (f" with {_some(one.partners)}" if one.partners else ""))
    if one.pinned:
        parts.append(("the rest pinned: " if one.prunable else "no: ") + _some(one.pinned))
    return "; ".join(parts) or "no: one channel"


def _some(parts: tuple[str, ...]) -> str:
    return ", ".join(parts[:_NAMES]) + (f" and {len(parts) - _NAMES} more" if len(parts) > _NAMES else "")
