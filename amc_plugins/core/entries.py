"""What `results.json` says of a step, and writing it: `amc_plugins.core.results` reads it. Runs and searches leave one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from amc_plugins.compression import CompressionResult
from amc_plugins.core.macs import profile
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.core.results import NAME
from amc_plugins.core.search import Evaluation, Search
from amc_plugins.exporting import atomic_write

__all__ = ["compression_detail", "file_entry", "network_entry", "search_detail", "write_results"]


def network_entry(
    name: str,
    kind: str,
    network: ReconstructedNetwork,
    *,
    seconds: float,
    detail: Mapping[str, Any],
    accuracy: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A step that gave a network: what it costs, how good it is, and what else there is to say of the step."""
    counted = profile(network)
    return {
        "name": name,
        "kind": kind,
        "macs": counted.total_macs,
        "parameters": counted.total_parameters,
        "unknown": list(counted.unknown),
        "accuracy": dict(accuracy or {}),
        "seconds": seconds,
        "detail": dict(detail),
        "profile": [row.as_data() for row in counted.rows],
    }


def write_results(folder: Path, title: str, recipe: Mapping[str, Any], steps: list[dict[str, Any]], **more: Any) -> None:
    """Write `results.json` into a run's folder.

    Args:
        folder: it must exist.
        title: for people.
        recipe: what the results depend on, in the form of a recipe.
        steps: one entry each, in order.
        more: other entries of `amc_plugins.core.results.Results`.
    """
    whole = {"schema": 1, "title": title, "recipe": recipe, **more, "steps": steps}
    with atomic_write(folder / NAME, durable=True) as temporary:
        temporary.write_text(json.dumps(whole, indent=1), encoding="utf-8")


def compression_detail(result: CompressionResult) -> dict[str, Any]:
    """What a compression did: its candidate, each layer, what the budget counts."""
    layers = [
        {
            "name": one.name,
            "macs_before": one.macs_before,
            "macs_after": one.macs_after,
            "error": one.error,
            "change": one.change,
        }
        for one in result.layers
    ]
    found = {"candidate": dict(result.candidate), "removed": result.removed, "layers": layers}
    if result.spent is not None:
        found["budget"] = {**asdict(result.spent), "removed": result.spent.removed}
    return found


def search_detail(search: Search) -> dict[str, Any]:
    """A search: its evaluations, the baselines, what was confirmed."""

    def entry(one: Evaluation) -> dict[str, Any]:
        return {"candidate": dict(one.candidate), **one.objectives}

    return {
        "method": search.tuner,
        "objective": search.objective,
        "evaluations": [entry(one) for one in search.evaluations],
        "best": dict(search.best.candidate),
        "baselines": {name: entry(one) for name, one in search.baselines.items()},
        "confirmed": [entry(one) for one in search.confirmed],
        "lucky": len(search.lucky()),
        "gains": search.gains,
        "score": search.best.score,
        "budget": search.budget.counts,
        "total": search.total,
    }


def file_entry(path: Path, folder: Path) -> dict[str, Any]:
    """A file, by its path relative to the run's folder."""
    return {"path": Path(os.path.relpath(path, folder)).as_posix(), "bytes": path.stat().st_size}
