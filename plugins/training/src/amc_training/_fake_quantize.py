"""Rounding to the values of an integer type: the layer, its place in documents, and quantizers that learn their ranges."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from amc_plugins.handlers import ElementwiseHandler, Params

__all__ = ["FakeQuantize", "FakeQuantizeHandler", "WeightQuantizer", "best_scale", "rounded"]

_FRACTIONS = 64
"""Shares of the largest value that are tried for a range."""


class _Scaled(torch.autograd.Function):
    """The identity, with the gradient scaled."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def rounded(value: Tensor, scale: Tensor, zero: Tensor, low: int, high: int) -> Tensor:
    """`s (clip(round(x / s + z), low, high) - z)`, with the gradients of learned step size quantization.

    Esser et al., Learned Step Size Quantization, ICLR 2020, eq. 1 to 3 and section 2.2: rounding passes gradients on,
    clipping stops them, and the step's gradient is divided by `sqrt(entries per step * high)`.
    """
    factor = 1.0 / math.sqrt(max(1, value.numel() // scale.numel()) * max(1, high))
    step: Tensor = _Scaled.apply(scale, factor)  # type: ignore[no-untyped-call]
    inside = torch.clamp(value / step + zero, low, high)
    levels = inside + (inside.round() - inside).detach()
    result: Tensor = (levels - zero) * step
    return result


def best_scale(value: Tensor, zero_at_low: bool, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Step and zero point of least squared rounding error for each row of `value` (rows, entries), of 64 ranges tried.

    Args:
        zero_at_low: the values have a sign, or lie on one side of another origin: the zero point is chosen too. Else it is 0.
    """
    rows = value.detach().flatten(1)
    top = rows.amax(1).clamp(min=0) if zero_at_low else rows.abs().amax(1)
    bottom = rows.amin(1).clamp(max=0) if zero_at_low else torch.zeros_like(top)
    levels = float(high - low) if zero_at_low else float(high)
    best = torch.full_like(top, torch.inf)
    scale, zero = torch.ones_like(top), torch.zeros_like(top)
    for number in range(1, _FRACTIONS + 1):
        step = ((top - bottom) * (number / _FRACTIONS) / levels).clamp(min=1e-12)
        point = (low - bottom * (number / _FRACTIONS) / step).round() if zero_at_low else torch.zeros_like(step)
        inside = torch.clamp((rows / step[:, None] + point[:, None]).round(), low, high)
        error = ((inside - point[:, None]) * step[:, None] - rows).square().sum(1)
        better = error < best
        best = torch.where(better, error, best)
        scale, zero = torch.where(better, step, scale), torch.where(better, point, zero)
    return scale, zero


class FakeQuantize(nn.Module):
    """Rounds a tensor to `2^bits` values, evenly `scale` apart; `zero` is the integer that stands for 0.

    Args:
        bits: 2 to 8.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.bits = bits
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("zero", torch.zeros(()))
        self.zero: Tensor

    @property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return 0, 2**self.bits - 1

    def start(self, values: Tensor) -> None:
        """Take the range of least rounding error for these values."""
        scale, zero = best_scale(values.reshape(1, -1).float(), True, *self.range)
        with torch.no_grad():
            self.scale.copy_(scale[0])
            self.zero.copy_(zero[0])

    def forward(self, x: Tensor) -> Tensor:
        return rounded(x, self.scale, self.zero, *self.range)


class WeightQuantizer(nn.Module):
    """A parametrisation: rounds each output channel of a weight (n, ...) to integers that are symmetric about 0."""

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits
        scale, _ = best_scale(weight.detach().flatten(1), False, *self.range)
        self.scale = nn.Parameter(scale.to(weight.dtype))  # (n,): one-dimensional parameters are not decayed

    @property
    def range(self) -> tuple[int, int]:
        return -(2 ** (self.bits - 1)) + 1, 2 ** (self.bits - 1) - 1

    def steps(self, weight: Tensor) -> Tensor:
        """The step of each output channel, in a shape that broadcasts over the weight."""
        return self.scale.reshape(-1, *[1] * (weight.dim() - 1))

    def forward(self, weight: Tensor) -> Tensor:
        return rounded(weight, self.steps(weight), torch.zeros((), device=weight.device), *self.range)


class FakeQuantizeHandler(ElementwiseHandler):
    """`vn.fake_quantize`: (any shape) -> the same. Channels pass through: the range is one for the whole tensor."""

    class Params(Params):
        bits: int = Field(ge=2, le=8)

    module_class = FakeQuantize
