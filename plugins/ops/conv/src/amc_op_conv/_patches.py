"""A convolution as a linear map from input patches to responses, at sampled output positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.handlers import LinearMap, Shape
from amc_plugins.plugin import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ConvMap", "output_size", "paddings"]


def paddings(params: Any) -> list[tuple[int, int]]:
    """(before, after) for height and width; `same` puts an odd element after, as torch does."""
    if params.padding == "valid":
        return [(0, 0), (0, 0)]
    if params.padding == "same":
        totals = [dilation * (kernel - 1) for dilation, kernel in zip(params.dilation, params.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(amount, amount) for amount in params.padding]


def output_size(params: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(Ho, Wo) for an input of `size` (H, W)."""
    height, width = (
        (length + before + after - dilation * (kernel - 1) - 1) // stride + 1
        for length, (before, after), dilation, kernel, stride in zip(
            size, paddings(params), params.dilation, params.kernel_size, params.stride, strict=True
        )
    )
    return height, width


class ConvMap(LinearMap):
    """`response = weight @ patch + bias` in every group; a patch has the order of `weight.flatten(1)`: channel, row, column.

    Positions count through (sample, Ho, Wo). The patch at output (r, s) starts at `stride * (r, s)` of the padded input.
    """

    input_axis = 1

    def __init__(
        self, params: Any, weight: Tensor, bias: Tensor | None, build: Callable[[Any, Mapping[str, Tensor]], nn.Module]
    ) -> None:
        self.in_channels = params.in_channels
        self.out_channels = params.out_channels
        self.groups = params.groups
        self.taps = params.kernel_size[0] * params.kernel_size[1]
        self.weight = weight.flatten(1)
        self.bias = bias
        self._params = params
        self._build = build

    def positions(self, output: Shape, per_sample: int | None, generator: torch.Generator) -> Tensor:
        """Distinct within a sample, ascending, on the generator's device; all when the map has no more than `per_sample`."""
        samples, size = output[0], output[-2] * output[-1]
        if per_sample is None or per_sample >= size:
            return torch.arange(samples * size, device=generator.device)
        keys = torch.rand(samples, size, generator=generator, device=generator.device)
        chosen = keys.topk(per_sample, dim=1).indices.sort(dim=1).values
        return (chosen + size * torch.arange(samples, device=generator.device)[:, None]).flatten()

    def patches(self, x: Tensor, positions: Tensor) -> Tensor:
        params = self._params
        (top, bottom), (left, right) = paddings(params)
        height, width = output_size(params, (x.shape[2], x.shape[3]))
        sample, row, column = _unravel(positions.to(x.device), height, width)
        if top or bottom or left or right:
            x = F.pad(x, (left, right, top, bottom), mode="constant" if params.padding_mode == "zeros" else params.padding_mode)
        rows = row[:, None] * params.stride[0] + params.dilation[0] * torch.arange(params.kernel_size[0], device=x.device)
        columns = column[:, None] * params.stride[1] + params.dilation[1] * torch.arange(params.kernel_size[1], device=x.device)
        taken = x.permute(0, 2, 3, 1)[sample[:, None, None], rows[:, :, None], columns[:, None, :]]  # (R, kh, kw, c)
        return taken.permute(0, 3, 1, 2).reshape(len(positions), -1)

    def responses(self, y: Tensor, positions: Tensor) -> Tensor:
        sample, row, column = _unravel(positions.to(y.device), y.shape[2], y.shape[3])
        return y[sample, :, row, column]

    def rebuilt(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """Raises `GraphError` when the numbers of rows or columns do not make a layer of as many groups."""
        rows, columns = weight.shape
        if rows % self.groups or columns % self.taps:
            raise GraphError(
                f"weights of shape {(rows, columns)} were given for {self.groups} groups and kernels of {self.taps} taps, "
                "expected were rows in whole groups and columns in whole kernels"
            )
        update = {"in_channels": columns // self.taps * self.groups, "out_channels": rows, "bias": bias is not None}
        tensors = {"weight": weight.reshape(rows, columns // self.taps, *self._params.kernel_size)}
        if bias is not None:
            tensors["bias"] = bias
        return self._build(self._params.model_copy(update=update), tensors)


def _unravel(positions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    size = height * width
    inside = positions % size
    return positions // size, inside // width, inside % width
