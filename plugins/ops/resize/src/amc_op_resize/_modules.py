"""The functions that resize feature maps, as modules. The keywords of a call replace the attributes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Interpolate", "Pad", "PixelShuffle", "PixelUnshuffle"]


class Interpolate(nn.Module):
    """`torch.nn.functional.interpolate`, (N, C, H, W) -> (N, C, H', W'), also for one and three spatial axes."""

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        antialias: bool = False,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor
        self.antialias = antialias

    def forward(self, x: Tensor, *, size: Any = None, scale_factor: Any = None) -> Tensor:
        return F.interpolate(
            x,
            self.size if size is None else size,
            self.scale_factor if scale_factor is None else scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
            self.antialias,
        )

    def extra_repr(self) -> str:
        target = f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}"
        return f"{target}, mode={self.mode!r}"


class PixelShuffle(nn.PixelShuffle):
    """(N, C * r * r, H, W) -> (N, C, H * r, W * r) with r = `upscale_factor`."""


class PixelUnshuffle(nn.PixelUnshuffle):
    """(N, C, H * r, W * r) -> (N, C * r * r, H, W) with r = `downscale_factor`."""


class Pad(nn.Module):
    """`torch.nn.functional.pad`: amounts (before, after) per axis, the last axis first; a negative amount crops."""

    def __init__(self, pad: list[Any], mode: str = "constant", value: float | None = None) -> None:
        super().__init__()
        self.pad = pad
        self.mode = mode
        self.value = value

    def forward(self, x: Tensor, *, pad: list[int] | None = None) -> Tensor:
        return F.pad(x, self.pad if pad is None else pad, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"pad={self.pad}, mode={self.mode!r}" + ("" if self.value is None else f", value={self.value}")
