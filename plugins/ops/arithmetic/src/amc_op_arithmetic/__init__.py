"""Layer handlers: element-wise arithmetic, comparisons, choices and conversions. The module classes are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_op_arithmetic._modules import (
        AddProduct,
        Cast,
        Clamp,
        ElemAdd,
        ElemDiv,
        ElemFloorDiv,
        ElemMaximum,
        ElemMinimum,
        ElemMul,
        ElemPow,
        ElemRemainder,
        ElemSub,
        MaskedFill,
        Where,
    )

__version__ = "0.1.0"
__all__ = [
    "AddProduct",
    "Cast",
    "Clamp",
    "ElemAdd",
    "ElemDiv",
    "ElemFloorDiv",
    "ElemMaximum",
    "ElemMinimum",
    "ElemMul",
    "ElemPow",
    "ElemRemainder",
    "ElemSub",
    "MaskedFill",
    "Where",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amc_op_arithmetic import _modules

    return getattr(_modules, name)
