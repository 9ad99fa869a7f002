"""The folder of a search that is no step of a recipe: its results and its report, in the form that a run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amc_plugins.compression import CompressionResult
from amc_plugins.core.entries import compression_detail, network_entry, search_detail, write_results
from amc_plugins.core.errors import RecipeError
from amc_plugins.core.report import write_report
from amc_plugins.core.results import NAME
from amc_plugins.core.search import Search
from amc_plugins.core.snapshots import save_snapshot
from amc_plugins.core.store import SCORES

__all__ = ["check_search_folder", "keep_search"]


def check_search_folder(folder: Path) -> None:
    """Refuse a folder in which something else than a search left its results: they would be written over.

    Raises:
        RecipeError: it is the folder of `amc run`.
    """
    if (folder / NAME).is_file() and not (folder / SCORES).is_file():
        raise RecipeError(f"`{folder}` holds the run of a recipe, not a search", hint="give the search a folder of its own")


def keep_search(
    folder: Path, title: str, recipe: Mapping[str, Any], search: Search, result: CompressionResult, seconds: float
) -> Path:
    """Leave what `amc report` needs in the folder of a search, and write the report.

    Args:
        folder: it holds the search's scores.
        title: the heading of the report.
        recipe: the sections of a recipe that would search the same.
        search: the search.
        result: its best candidate, applied.
        seconds: what both took.

    Returns:
        The report's path.
    """
    detail = {"method": recipe["compress"]["method"], "search": search_detail(search), **compression_detail(result)}
    steps = []
    for name, kind, network, took, said in (
        ("capture", "capture", search.plan.network, 0.0, {}),
        ("compress", "compress", result.network, seconds, detail),
    ):
        save_snapshot(network, folder / f"{name}.pt")
        steps.append(network_entry(name, kind, network, seconds=took, detail=said))
    write_results(folder, title, recipe, steps, result="compress")
    return write_report(folder)
