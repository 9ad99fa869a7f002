"""A convolution as a linear map from input patches to responses, at sampled output positions."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.handlers import LinearMap, Shape, resized
from amc_plugins.plugin import GraphError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ConvMap", "output_size", "paddings"]


def paddings(params: Any) -> list[tuple[int, int]]:
    """(before, after) per spatial axis; `same` puts an odd element after, as torch does."""
    if params.padding == "valid":
        return [(0, 0)] * params.rank
    if params.padding == "same":
        totals = [dilation * (kernel - 1) for dilation, kernel in zip(params.dilation, params.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(amount, amount) for amount in params.padding]


def output_size(params: Any, size: Sequence[int]) -> list[int]:
    """The spatial size of the output for an input of spatial `size`, (Ho, Wo) for (H, W)."""
    return [
        (length + before + after - dilation * (kernel - 1) - 1) // stride + 1
        for length, (before, after), dilation, kernel, stride in zip(
            size, paddings(params), params.dilation, params.kernel_size, params.stride, strict=True
        )
    ]


class ConvMap(LinearMap):
    """`response = weight @ patch + bias` in every group; a patch has the order of `weight.flatten(1)`: channel, row, column.

    Positions count through (sample, Ho, Wo), or as many spatial axes as there are. The patch at output (r, s) starts at
    `stride * (r, s)` of the padded input.
    """

    input_axis = 1

    def __init__(self, module: nn.Module, params: Any, weight: Tensor, bias: Tensor | None) -> None:
        self.in_channels = params.in_channels
        self.out_channels = params.out_channels
        self.groups = params.groups
        self.taps = prod(params.kernel_size)
        self.weight = weight.flatten(1)
        self.bias = bias
        self._params = params
        self._module = module

    def positions(self, output: Shape, per_sample: int | None, generator: torch.Generator) -> Tensor:
        """Distinct within a sample, ascending, on the generator's device; all when the map has no more than `per_sample`."""
        samples, size = output[0], prod(output[2:])
        if per_sample is None or per_sample >= size:
            return torch.arange(samples * size, device=generator.device)
        keys = torch.rand(samples, size, generator=generator, device=generator.device)
        chosen = keys.topk(per_sample, dim=1).indices.sort(dim=1).values
        return (chosen + size * torch.arange(samples, device=generator.device)[:, None]).flatten()

    def patches(self, x: Tensor, positions: Tensor) -> Tensor:
        params = self._params
        sample, *places = _unravel(positions.to(x.device), output_size(params, x.shape[2:]))
        around = [amount for pair in reversed(paddings(params)) for amount in pair]
        if any(around):
            x = F.pad(x, around, mode="constant" if params.padding_mode == "zeros" else params.padding_mode)
        shape = [len(positions), *[1] * params.rank]
        index = [sample.view(shape)]
        for axis, (place, kernel) in enumerate(zip(places, params.kernel_size, strict=True)):
            taps = place[:, None] * params.stride[axis] + params.dilation[axis] * torch.arange(kernel, device=x.device)
            index.append(taps.view([*shape[: axis + 1], kernel, *shape[axis + 2 :]]))
        taken = x.movedim(1, -1)[tuple(index)]  # (R, kh, kw, c)
        return taken.movedim(-1, 1).reshape(len(positions), -1)

    def responses(self, y: Tensor, positions: Tensor) -> Tensor:
        return y.movedim(1, -1)[tuple(_unravel(positions.to(y.device), y.shape[2:]))]

    def rebuilt(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """Raises `GraphError` when the numbers of rows or columns do not make a layer of as many groups."""
        rows, columns = weight.shape
        if rows % self.groups or columns % self.taps:
            raise GraphError(
                f"weights of shape {(rows, columns)} were given for {self.groups} groups and kernels of {self.taps} taps, "
                "expected were rows in whole groups and columns in whole kernels"
            )
        tensors = {"weight": weight.reshape(rows, columns // self.taps, *self._params.kernel_size)}
        if bias is not None:
            tensors["bias"] = bias
        made = resized(self._module, tensors, in_channels=columns // self.taps * self.groups, out_channels=rows)
        return made.requires_grad_(True)


def _unravel(positions: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The sample and the place on each spatial axis."""
    places = []
    for size in reversed(sizes):
        places.append(positions % size)
        positions = positions // size
    return [positions, *reversed(places)]
