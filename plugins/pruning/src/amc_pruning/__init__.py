"""Channel pruning for amc-plugins. `PruningSampler` (the source system writes `PrunningSampler`) is loaded on first use."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["PruningSampler", "PrunningSampler"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from amc_pruning import _sampler

        return _sampler.PruningSampler
    raise AttributeError(f"module `amc_pruning` has no attribute `{name}`")
