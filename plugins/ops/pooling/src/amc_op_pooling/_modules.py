"""Pooling layers whose sizes may also be computed when the network runs, and the mean as a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d", "TensorMean"]


class MaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d`, (N, C, H, W) -> (N, C, H', W'); the keywords of a call replace the attributes."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        return F.max_pool2d(
            input,
            self.kernel_size if kernel_size is None else kernel_size,
            self.stride if stride is None else stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
        )


class AvgPool2d(nn.AvgPool2d):
    """`nn.AvgPool2d`, (N, C, H, W) -> (N, C, H', W'); the keywords of a call replace the attributes."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        return F.avg_pool2d(
            input,
            self.kernel_size if kernel_size is None else kernel_size,
            self.stride if stride is None else stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d`; `output_size` of a call replaces the attribute."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size if output_size is None else output_size)


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """`nn.AdaptiveMaxPool2d`; `output_size` of a call replaces the attribute."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        size: Any = self.output_size if output_size is None else output_size
        return F.adaptive_max_pool2d(input, size)


class TensorMean(nn.Module):
    """The mean along the axes `dim`; of all entries when `dim` is None."""

    def __init__(self, dim: list[int] | int | None = None, keepdim: bool = False) -> None:
        super().__init__()
        self.dim = [dim] if isinstance(dim, int) else dim
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        if self.dim is None and not self.keepdim:
            return torch.mean(x)
        return torch.mean(x, dim=self.dim, keepdim=self.keepdim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, keepdim={self.keepdim}"
