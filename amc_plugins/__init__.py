"""AMC plug-ins: take a trained PyTorch network and give back one that needs fewer multiply-adds.

    import amc_plugins as amc

    network = amc.capture(model, example)
    result = amc.compress(network, "pruning", calibration=loader, total=0.5)
    amc.train(result.network, "supervised", train=loader, epochs=3)
    amc.export(result.network, "vnmodel", "model.vnmodel")

Every name here is imported on first use, so importing this package costs nothing (no torch, no pydantic, no plugin).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_plugins.core.bench import bench
    from amc_plugins.core.budgets import Budget
    from amc_plugins.core.capture import capture, capturing
    from amc_plugins.core.channels import channel_groups
    from amc_plugins.core.discovery import plugins
    from amc_plugins.core.draw import draw
    from amc_plugins.core.engine import compress, export, load, prepare, train, tune
    from amc_plugins.core.errors import AmcError
    from amc_plugins.core.macs import profile, showFMLAs
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.recipe import run
    from amc_plugins.core.registering import register

__all__ = [
    "AmcError",
    "Budget",
    "ReconstructedNetwork",
    "__version__",
    "bench",
    "capture",
    "capturing",
    "channel_groups",
    "compress",
    "draw",
    "export",
    "load",
    "plugins",
    "prepare",
    "profile",
    "register",
    "run",
    "showFMLAs",
    "train",
    "tune",
]

__version__ = "0.1.0"

_WHERE = {
    "AmcError": "errors",
    "Budget": "budgets",
    "ReconstructedNetwork": "network",
    "bench": "bench",
    "capture": "capture",
    "capturing": "capture",
    "channel_groups": "channels",
    "compress": "engine",
    "draw": "draw",
    "export": "engine",
    "load": "engine",
    "plugins": "discovery",
    "prepare": "engine",
    "profile": "macs",
    "register": "registering",
    "run": "recipe",
    "showFMLAs": "macs",
    "train": "engine",
    "tune": "engine",
}
"""Name -> module of `amc_plugins.core`."""


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.core.{where}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
