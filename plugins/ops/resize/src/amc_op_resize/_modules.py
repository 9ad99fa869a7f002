"""The functions that resize feature maps, as modules. The keywords of a call replace the attributes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

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


class GridSample(nn.Module):
    """`torch.nn.functional.grid_sample` of (N, C, H, W) at (N, H', W', 2) -> (N, C, H', W')."""

    def __init__(
        self,
        mode: str = "bilinear",
        padding_mode: str = "zeros",
        align_corners: bool | None = None,
        reversed: bool = False,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.padding_mode = padding_mode
        self.align_corners = align_corners
        self.reversed = reversed

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        if self.reversed:
            x, grid = grid, x
        return F.grid_sample(x, grid, self.mode, self.padding_mode, self.align_corners)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, padding_mode={self.padding_mode!r}"


class AffineGrid(nn.Module):
    """`torch.nn.functional.affine_grid`, (N, 2, 3) -> (N, H, W, 2) for `size` (N, C, H, W)."""

    def __init__(self, size: list[Any], align_corners: bool | None = None) -> None:
        super().__init__()
        self.size = size
        self.align_corners = align_corners

    def forward(self, theta: Tensor, *, size: Any = None) -> Tensor:
        return F.affine_grid(theta, self.size if size is None else size, self.align_corners)

    def extra_repr(self) -> str:
        return f"size={self.size}"


class Fold(nn.Fold):
    """`nn.Fold`, (N, C * kh * kw, L) -> (N, C, H, W); `output_size` of a call replaces the attribute."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        size = self.output_size if output_size is None else output_size
        return F.fold(input, size, self.kernel_size, self.dilation, self.padding, self.stride)


class ChannelShuffle(nn.Module):
    """`nn.ChannelShuffle`: channel j of group i becomes channel i of group j."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"
