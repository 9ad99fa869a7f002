"""Layer handlers: normalisation. The module classes are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_op_norm._layer import LayerNorm, RMSNorm
    from amc_op_norm._normalize import Normalize

__version__ = "0.1.0"
__all__ = ["LayerNorm", "Normalize", "RMSNorm"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amc_op_norm import _layer, _normalize

    return getattr(_normalize if name == "Normalize" else _layer, name)
