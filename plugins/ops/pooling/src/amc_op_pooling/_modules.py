"""Pooling layers whose sizes may also be computed when the network runs: the keywords of a call replace the attributes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]


def _either(given: Any, own: Any) -> Any:
    return own if given is None else given


class MaxPool1d(nn.MaxPool1d):
    """`nn.MaxPool1d`, (N, C, L) -> (N, C, L')."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        sizes = _either(kernel_size, self.kernel_size), _either(stride, self.stride)
        return F.max_pool1d(input, *sizes, self.padding, self.dilation, self.ceil_mode)


class MaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d`, (N, C, H, W) -> (N, C, H', W')."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        sizes = _either(kernel_size, self.kernel_size), _either(stride, self.stride)
        return F.max_pool2d(input, *sizes, self.padding, self.dilation, self.ceil_mode)


class MaxPool3d(nn.MaxPool3d):
    """`nn.MaxPool3d`, (N, C, D, H, W) -> (N, C, D', H', W')."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        sizes = _either(kernel_size, self.kernel_size), _either(stride, self.stride)
        return F.max_pool3d(input, *sizes, self.padding, self.dilation, self.ceil_mode)


class AvgPool1d(nn.AvgPool1d):
    """`nn.AvgPool1d`, (N, C, L) -> (N, C, L')."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        sizes = _either(kernel_size, self.kernel_size), _either(stride, self.stride)
        return F.avg_pool1d(input, *sizes, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(nn.AvgPool2d):
    """`nn.AvgPool2d`, (N, C, H, W) -> (N, C, H', W')."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        sizes = _either(kernel_size, self.kernel_size), _either(stride, self.stride)
        return F.avg_pool2d(input, *sizes, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)


class AvgPool3d(nn.AvgPool3d):
    """`nn.AvgPool3d`, (N, C, D, H, W) -> (N, C, D', H', W')."""

    def forward(self, input: Tensor, *, kernel_size: Any = None, stride: Any = None) -> Tensor:
        sizes = _either(kernel_size, self.kernel_size), _either(stride, self.stride)
        return F.avg_pool3d(input, *sizes, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)


class AdaptiveAvgPool1d(nn.AdaptiveAvgPool1d):
    """`nn.AdaptiveAvgPool1d`, (N, C, L) -> (N, C, L')."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        return F.adaptive_avg_pool1d(input, _either(output_size, self.output_size))


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d`, (N, C, H, W) -> (N, C, H', W')."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        return F.adaptive_avg_pool2d(input, _either(output_size, self.output_size))


class AdaptiveAvgPool3d(nn.AdaptiveAvgPool3d):
    """`nn.AdaptiveAvgPool3d`, (N, C, D, H, W) -> (N, C, D', H', W')."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        return F.adaptive_avg_pool3d(input, _either(output_size, self.output_size))


class AdaptiveMaxPool1d(nn.AdaptiveMaxPool1d):
    """`nn.AdaptiveMaxPool1d`, (N, C, L) -> (N, C, L')."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        return F.adaptive_max_pool1d(input, _either(output_size, self.output_size))


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """`nn.AdaptiveMaxPool2d`, (N, C, H, W) -> (N, C, H', W')."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        return F.adaptive_max_pool2d(input, _either(output_size, self.output_size))


class AdaptiveMaxPool3d(nn.AdaptiveMaxPool3d):
    """`nn.AdaptiveMaxPool3d`, (N, C, D, H, W) -> (N, C, D', H', W')."""

    def forward(self, input: Tensor, *, output_size: Any = None) -> Tensor:
        return F.adaptive_max_pool3d(input, _either(output_size, self.output_size))
