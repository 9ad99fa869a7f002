"""`amc doctor NETWORK`: what can be compressed of a network, and what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from amc_plugins.cli import render
from amc_plugins.cli.arguments import Input, Json, Network, NetworkSettings, Seed, Weights
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
    settings: NetworkSettings = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Say what can be compressed of a network, and what stands in the way.

    Per layer: whether smaller layers can replace it, which input channels can be removed and with which other layers, and what
    keeps the others. Then calls without a handler, with the shortest handler that would serve, and whether the network runs on
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
    render.table(["layer", "MACs", "decomposed", "input channels", "line"], rows, right=["MACs"])
    render.text()
    for trial in found.trials:
        shapes = ", ".join("x".join(map(str, shape)) for shape in trial.inputs)
        render.text(f"{trial.name} {shapes}: {'works' if trial.problem is None else trial.problem}")
    for note in found.notes:
        render.text(note)
    for call in found.opaque:
        render.text()
        render.text(f"no handler: {call.call} at {call.source or 'an unknown line'} ({call.name}); this would serve:")
        for line in call.handler.splitlines():
            render.text(f"    {line}")
    if any("(" in call.handler and not call.handler.startswith("class") for call in found.opaque):
        render.note("in a script: `amc.register(transparent(...))`; in a plugin: `yield transparent(...)` from the hook")


def _pruning(one: LayerDiagnosis) -> str:
    if not one.prunable:
        alone = "stay: one of each group does" if one.inputs else "follow the layers that make them"
        return f"stay: {_reasons(one.pinned)}" if one.pinned else alone
    together = f" with those of {_some(one.partners)}" if one.partners else ""
    others = f"; the others stay: {_reasons(one.pinned)}" if one.pinned else ""
    return f"{one.prunable} of {one.inputs} can go{together}{others}"


def _reasons(pinned: tuple[str, ...]) -> str:
    """Reasons that differ in their line alone are said once."""
    lines: dict[str, list[str]] = {}
    for why in pinned:
        what, at, line = why.rpartition(" at ")
        lines.setdefault(f"{what}{at}" or why, []).extend([line] if at else [])
    return _some([f"{what}{_some(where)}" for what, where in lines.items()])


def _some(parts: Sequence[str]) -> str:
    return ", ".join(parts[:_NAMES]) + (f" and {len(parts) - _NAMES} more" if len(parts) > _NAMES else "")
