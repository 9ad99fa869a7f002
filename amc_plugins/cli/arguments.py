"""What several commands take: networks, data, settings and files, as options with one meaning, and how their texts are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from amc_plugins.cli import completion
from amc_plugins.core.errors import SettingsError
from amc_plugins.core.example_inputs import ExampleInput, parse_input

__all__ = [
    "Batch",
    "BudgetOption",
    "Calibration",
    "CompressorOption",
    "DataSettings",
    "FactorySettings",
    "Input",
    "Json",
    "Network",
    "NetworkSettings",
    "Out",
    "Seed",
    "SettingsOption",
    "Threads",
    "Total",
    "Weights",
    "complete",
    "parse_inputs",
    "parse_ratios",
    "parse_settings",
]


def complete(kind: str) -> Any:
    """Completion of the names of one kind of plugin; reads metadata alone."""

    return completion.names(kind)


Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="`package.module:factory` or `file.py:factory` of a torch module, or a .pkl, .json or .vnmodel file.",
    ),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="INPUT",
        help="The example input: its shape, batch included, 1x3x224x224; 1x16:i64:1000 for whole numbers below 1000 (types "
        "as in documents: f32, f16, i64, u8, bool, ...); or `file.py:factory` of a tensor. Once per input.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", "-w", metavar="FILE", help="A state_dict saved by torch.save, for the factory's module."),
]
FactorySettings = Annotated[
    list[str] | None,
    typer.Option("--network-set", metavar="KEY=VALUE", help="A keyword of the network's factory; repeatable."),
]
NetworkSettings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", "--network-set", metavar="KEY=VALUE", help="A keyword of the network's factory; repeatable."),
]
"""`FactorySettings` of a command in which nothing else is set."""
DataSettings = Annotated[
    list[str] | None,
    typer.Option("--data-set", metavar="KEY=VALUE", help="A keyword of every data factory; repeatable."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        autocompletion=completion.settings,
        help="A setting of the plugin, as `amc plugins show` lists them; repeatable.",
    ),
]
Calibration = Annotated[
    str,
    typer.Option(
        "--calibration",
        "-c",
        metavar="FACTORY",
        help="`package.module:factory` or `file.py:factory` of the calibration data; labels are not needed.",
    ),
]
CompressorOption = Annotated[
    str | None,
    typer.Option("--compressor", metavar="METHOD", autocompletion=complete("compressors"), help="The same as METHOD."),
]
Observers = Annotated[
    list[str] | None,
    typer.Option(
        "--observer",
        metavar="NAME",
        autocompletion=complete("observers"),
        help="An observer plugin to tell, for example `tensorboard`; repeatable.",
    ),
]
Total = Annotated[
    float | None,
    typer.Option("--total", "-t", metavar="SHARE", help="Share of the network's MACs to remove, 0 to 1; see --budget."),
]
BudgetOption = Annotated[
    str,
    typer.Option(
        "--budget",
        metavar="WHAT",
        help="What the total counts: `macs`, `parameters`, `activations` (peak memory of one sample) or measured `latency`.",
    ),
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Samples of the forward pass that is timed for a latency.")]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", help="Threads of torch while it is timed; default: torch's own.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Of all randomness.")]
Out = Annotated[
    list[str] | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write the network: .pkl, .json or .vnmodel; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def parse_settings(texts: Iterable[str] | None, option: str = "--set") -> dict[str, Any]:
    """`key=value` texts as a mapping. A value is read as TOML; a bare word is a string.

    Raises:
        SettingsError: a text is no `key=value`, a value looks like TOML and is not, or a key comes twice.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise SettingsError(f"`{option} {text}` is not `KEY=VALUE`", hint=f"for example {option} name=0.5")
        if key in found:
            raise SettingsError(f"`{option} {key}` is given twice")
        found[key] = _value(value.strip(), f"{option} {text}")
    return found


def _value(text: str, where: str) -> Any:
    import tomllib

    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ("[", "{", '"', "'"):
            raise SettingsError(
                f"the value of `{where}` is no TOML: {error}", hint="quote it for the shell: --set 'name=[1, 2]'"
            ) from error
        return text
    return parsed["value"] if len(parsed) == 1 else text


def parse_inputs(texts: Iterable[str] | None) -> list[ExampleInput | str]:
    """The texts of `--input`: what is to be drawn, or references of factories.

    Raises:
        SettingsError: a text is neither.
    """
    return [parse_input(text, "--input") for text in texts or ()]


def parse_ratios(texts: Iterable[str] | None) -> dict[str, float] | None:
    """`glob=share` texts as a mapping; None for none.

    Raises:
        SettingsError: a text is no `glob=share`.
    """
    if not texts:
        return None
    found = parse_settings(texts, "--ratios")
    for name, share in found.items():
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise SettingsError(f"`--ratios {name}={share}`: the share is a number from 0 to 1")
    return {name: float(share) for name, share in found.items()}
