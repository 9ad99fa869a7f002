"""Networks and data of the command line: opened from what was typed, and written to files by suffix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins.cli import render
from amc_plugins.cli.arguments import parse_inputs, parse_settings
from amc_plugins.core.errors import AmcError, SettingsError, UnknownPluginError
from amc_plugins.core.near_files import nearest_file

if TYPE_CHECKING:
    from amc_plugins.core.macs import Profile
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.results import LayerLine

__all__ = ["as_rows", "check_outputs", "evaluation", "loader", "open_network", "removed_share", "side_by_side", "write_outputs"]


def open_network(
    source: str,
    *,
    inputs: Sequence[str] | None = None,
    weights: str | None = None,
    settings: Sequence[str] | None = None,
    seed: int = 0,
    strict: bool = False,
) -> ReconstructedNetwork:
    """The network that the argument NETWORK names: captured from a factory's module, or loaded from a file.

    Raises:
        SettingsError: the options do not go with the kind of network.
        AmcError: it cannot be made, captured or loaded.
    """
    from amc_plugins.core.opening import open_network as opened
    from amc_plugins.core.recipe import NetworkSection
    from amc_plugins.core.validation import validated

    if ":" not in source:
        _check_file(source, {"--input": inputs, "--weights": weights, "--network-set": settings})
    elif not inputs:
        raise SettingsError(
            f"`{source}` is captured on an example input, and its shape is not given",
            hint="give it with the batch first, for example --input 1x3x224x224",
        )
    parse_inputs(inputs)
    given = {
        "source": source,
        "weights": weights,
        "input": list(inputs or ()) or None,
        "settings": parse_settings(settings, "--network-set"),
    }
    return opened(validated(NetworkSection, given, what="the network"), Path.cwd(), seed=seed, strict=strict)


def _check_file(source: str, options: dict[str, Any]) -> None:
    path = Path(source)
    if not path.is_file() and path.suffix not in _read_suffixes():
        raise AmcError(
            f"`{source}` is no file and names no factory{nearest_file(path)}",
            hint="write `package.module:factory`, `file.py:factory`, or the path of a .pkl, .json or .vnmodel file",
        )
    if path.suffix == ".py":
        raise AmcError(f"`{source}` is Python code: which factory in it?", hint=f"write `{source}:NAME`")
    wrong = [name for name, value in options.items() if value]
    if wrong:
        raise SettingsError(f"{' and '.join(wrong)}: only for a network that a factory makes, and `{source}` is a file")


def _read_suffixes() -> set[str]:
    return {suffix for spec in _exporters() if spec.loads for suffix in spec.suffixes}


def _exporters() -> list[Any]:
    from amc_plugins.core.registry import registry

    return list(registry().specs("exporters"))


def loader(reference: str, settings: Sequence[str] | None, seed: int) -> Any:
    """The loader that a data factory makes."""
    from amc_plugins.core.factories import call_factory

    return call_factory(reference, parse_settings(settings, "--data-set"), base=Path.cwd(), seed=seed)


def evaluation(reference: str | None) -> Callable[[Any], Any] | None:
    """The function `network -> score` of a reference; an error that it raises names the reference."""
    if reference is None:
        return None
    from amc_plugins.core.factories import import_reference

    function = import_reference(reference, Path.cwd())
    if not callable(function):
        raise AmcError(f"`{reference}` is a {type(function).__name__}, not a function of a network")

    @wraps(function)  # a search knows its objective by this name
    def evaluate(network: Any) -> Any:
        try:
            return function(network)
        except AmcError:
            raise
        except Exception as error:
            raise AmcError(f"`{reference}` failed: {type(error).__name__}: {error}") from error

    return evaluate


def check_outputs(paths: Iterable[str] | None) -> list[tuple[str, Path]]:
    """(exporter, path) of every file to write, known to be possible as far as names tell: before the work, not after it.

    Raises:
        UnknownPluginError: no installed exporter writes that suffix.
    """
    found = []
    for text in paths or ():
        path = Path(text)
        names = [spec.name for spec in _exporters() if path.suffix in spec.suffixes]
        if not names:
            known = sorted({suffix for spec in _exporters() for suffix in spec.suffixes})
            raise UnknownPluginError(
                f"no installed exporter writes `{path.suffix or path.name}` files; those installed write {', '.join(known)}",
                hint="amc plugins list --kind exporters",
            )
        if path.is_dir():
            raise AmcError(f"`{path}` is a folder; the name of a file is needed")
        there = next(one for one in path.absolute().parents if one.exists())
        if not there.is_dir():
            raise AmcError(f"`{path}` cannot be written: `{there}` is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise AmcError(
                f"`{path}` cannot be written: no permission for `{there}`", hint="name a file in a folder of your own"
            )
        found.append((names[0], path))
    return found


def write_outputs(network: ReconstructedNetwork, outputs: Sequence[tuple[str, Path]]) -> list[Path]:
    """Export to each file; the reload is compared bit for bit. Says on stderr what was written."""
    from amc_plugins.core import engine

    written = [engine.export(network, exporter, path) for exporter, path in outputs]
    for path in written:
        render.note(f"wrote {path} ({path.stat().st_size:,} bytes)")
    return written


def as_rows(profile: Profile) -> dict[str, Any]:
    """A profile as JSON data."""
    return {
        "rows": [{**row.as_data(), "activations": row.activations, "source": row.source} for row in profile.rows],
        "total_macs": profile.total_macs,
        "total_parameters": profile.total_parameters,
        "total_activations": profile.total_activations,
        "unknown": list(profile.unknown),
    }


def removed_share(before: int | None, after: int | None) -> str:
    """The share of MACs removed, as text; empty where it has no meaning."""
    return "" if not before or after is None else f"{1.0 - after / before:.1%}"


def side_by_side(before: Profile, after: Profile) -> list[LayerLine]:
    """The layers of two networks, the second made from the first."""
    from amc_plugins.core.results import ProfileRow, layer_lines

    then, now = ([ProfileRow.model_validate(row) for row in as_rows(one)["rows"]] for one in (before, after))
    return layer_lines(then, now)
