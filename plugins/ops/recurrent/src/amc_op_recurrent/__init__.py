"""Layer handlers: recurrent layers. The module class is loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_op_recurrent._modules import Recurrent

__version__ = "0.1.0"
__all__ = ["Recurrent"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amc_op_recurrent import _modules

    return getattr(_modules, name)
