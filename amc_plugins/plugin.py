"""What a plugin's light module (the value of its entry point) needs. Free of torch.

A minimal plugin::

    from amc_plugins.plugin import CompressorSpec, hookimpl

    @hookimpl
    def amc_compressors():
        yield CompressorSpec(name="keep-first", summary="keep the first channels", api=(1, 0), target="my_pkg._impl:KeepFirst")

and in `pyproject.toml`::

    [project.entry-points."amc_plugins.compressors"]
    keep-first = "my_pkg.plugin"
"""

from __future__ import annotations

from amc_plugins.core.errors import AmcError, BudgetError, CheckFailed, GraphError, SettingsError, nearest
from amc_plugins.core.hookspecs import hookimpl
from amc_plugins.core.specs import (
    AMC_API,
    CompressorSettings,
    CompressorSpec,
    ExporterSpec,
    LayerHandlerSpec,
    ObserverSpec,
    PluginSpec,
    Settings,
    TrainerSpec,
    TunerSpec,
)

__all__ = [
    "AMC_API",
    "AmcError",
    "BudgetError",
    "CheckFailed",
    "CompressorSettings",
    "CompressorSpec",
    "ExporterSpec",
    "GraphError",
    "LayerHandlerSpec",
    "ObserverSpec",
    "PluginSpec",
    "Settings",
    "SettingsError",
    "TrainerSpec",
    "TunerSpec",
    "barrier",
    "hookimpl",
    "nearest",
    "transparent",
]


def transparent(captures: str, *, name: str | None = None, op: str | None = None) -> LayerHandlerSpec:
    """Declare an operation that does nothing to channels, in one line: element-wise, one tensor in, one out.

    `captures` is `package.module:Class` (or a dotted function name). The name defaults to the class name in lower
    case, the op id to `<top package>.<name>`. The module is rebuilt from constructor arguments kept as attributes of
    the same names; a module without that property still runs and compresses, and refuses to be saved with the reason.
    """
    return _one_line(captures, name, op, "amc_plugins.core.user_ops:Transparent", "does nothing to channels", {})


def barrier(captures: str, *, why: str, name: str | None = None, op: str | None = None) -> LayerHandlerSpec:
    """Declare an operation that stops channel removal on everything it touches, because of `why`."""
    return _one_line(
        captures, name, op, "amc_plugins.core.user_ops:Barrier", f"stops channel removal: {why}"[:120], {"why": why}
    )


def _one_line(
    captures: str, name: str | None, op: str | None, target: str, summary: str, options: dict[str, str]
) -> LayerHandlerSpec:
    dotted = captures.replace(":", ".")
    package, _, last = dotted.rpartition(".")
    name = name or last.lower()
    top = (package or dotted).partition(".")[0]
    return LayerHandlerSpec(
        name=name,
        op=op or f"{top}.{name}".replace("-", "_").lower(),
        summary=summary,
        target=target,
        api=AMC_API,
        captures=(dotted,),
        options={**options, "captures": dotted},
    )
