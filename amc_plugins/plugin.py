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

from amc_plugins.core.deprecation import deprecated
from amc_plugins.core.errors import AmcError, BudgetError, CheckFailed, GraphError, SettingsError, nearest
from amc_plugins.core.hookspecs import hookimpl
from amc_plugins.core.script_ops import Captured, handler_spec
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
    "deprecated",
    "hookimpl",
    "nearest",
    "transparent",
]


def transparent(captures: Captured, *, name: str | None = None, op: str | None = None) -> LayerHandlerSpec:
    """Declare an operation that does nothing to channels, in one line: each channel of the output is the same function of
    that channel of the input alone. Several inputs are taken to lie on each other, as in an addition.

    `captures` is `package.module:Class`, the dotted name of a function or tensor method (`torch.special.xlogy`,
    `torch.Tensor.logit`), or the class or function itself. The name defaults to the last part in lower case, the op id to
    `<top package>.<name>`. A module is rebuilt from constructor arguments kept as attributes of the same names; one without
    that property still runs and compresses, and refuses to be saved with the reason. In a script:
    `amc.register(transparent(Swish))`.
    """
    target = "amc_plugins.core.user_ops:Transparent"
    return handler_spec(target, [captures], name=name, op=op, summary="does nothing to channels")


def barrier(captures: Captured, *, why: str, name: str | None = None, op: str | None = None) -> LayerHandlerSpec:
    """Declare an operation that stops channel removal on everything it touches, because of `why`."""
    summary = " ".join(f"stops channel removal: {why}".split())[:120]
    target = "amc_plugins.core.user_ops:Barrier"
    return handler_spec(target, [captures], name=name, op=op, summary=summary, options={"why": why})
