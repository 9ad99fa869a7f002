"""Layer handlers: reshaping, concatenation, splitting and slicing. The module classes are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_op_shape._modules import (
        Concatenate,
        Stack,
        TensorChunk,
        TensorExpand,
        TensorFlatten,
        TensorFlip,
        TensorGather,
        TensorRepeat,
        TensorRepeatInterleave,
        TensorReshape,
        TensorRoll,
        TensorSetItem,
        TensorSlice,
        TensorSplit,
        TensorSqueeze,
        TensorSwapAxes,
        TensorTranspose,
        TensorUnbind,
        TensorUnflatten,
        TensorUnsqueeze,
        TensorWindows,
    )

__version__ = "0.1.0"
__all__ = [
    "Concatenate",
    "Stack",
    "TensorChunk",
    "TensorExpand",
    "TensorFlatten",
    "TensorFlip",
    "TensorGather",
    "TensorRepeat",
    "TensorRepeatInterleave",
    "TensorReshape",
    "TensorRoll",
    "TensorSetItem",
    "TensorSlice",
    "TensorSplit",
    "TensorSqueeze",
    "TensorSwapAxes",
    "TensorTranspose",
    "TensorUnbind",
    "TensorUnflatten",
    "TensorUnsqueeze",
    "TensorWindows",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amc_op_shape import _modules

    return getattr(_modules, name)
