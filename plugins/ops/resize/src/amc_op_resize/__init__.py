"""Layer handlers: interpolation, sampling, shuffles, patches and padding. The module classes are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_op_resize._modules import (
        AffineGrid,
        ChannelShuffle,
        Fold,
        GridSample,
        Interpolate,
        Pad,
        PixelShuffle,
        PixelUnshuffle,
    )

__version__ = "0.1.0"
__all__ = [
    "AffineGrid",
    "ChannelShuffle",
    "Fold",
    "GridSample",
    "Interpolate",
    "Pad",
    "PixelShuffle",
    "PixelUnshuffle",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amc_op_resize import _modules

    return getattr(_modules, name)
