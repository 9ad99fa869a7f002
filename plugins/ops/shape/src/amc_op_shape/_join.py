"""Concatenation and stacking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from amc_op_shape import _modules
from amc_op_shape._ids import copied, literal
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ConcatenateHandler", "StackHandler"]


class JoinParams(Params):
    """The axis; negative counts from the end."""

    dim: int = 0


class _JoinHandler(LayerHandler):
    Params = JoinParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        bound = call.bind("tensors", dim=0)
        if not isinstance(bound["tensors"], list | tuple) or not all(isinstance(one, Value) for one in bound["tensors"]):
            raise Declined(f"{call.target} of something other than a list of tensors")
        assert self.module_class is not None
        return self.module_class(literal(call, "dim", bound["dim"]))


class ConcatenateHandler(_JoinHandler):
    """Along the channel axis each input keeps its channels; along another axis, those in one place are tied."""

    module_class = _modules.Concatenate

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        first, dim = list(inputs[0]), params.dim
        if any(len(one) != len(first) for one in inputs) or not -len(first) <= dim < len(first):
            return None
        first[dim] = sum(one[dim] for one in inputs)
        return [tuple(first)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,) = ids.output_shapes
        dim = params.dim % len(shape)
        parts = [one for one in inputs if one.dim() == len(shape) and one.shape[dim]] or inputs[:1]  # torch takes empty ones
        others = [axis for axis in range(len(shape)) if axis != dim]
        if any(ids.varies(one, axis) for one in parts for axis in others):
            if not any(ids.varies(one, dim) for one in parts):
                return ids.tie(*(ids.cut(one, [dim]) for one in parts)).expand(shape)
            return ids.straight(torch.cat(_thin(parts, dim), dim).expand(shape))
        return torch.cat(_thin(parts, dim), dim).expand(shape)


class StackHandler(_JoinHandler):
    """Channels in one place of the inputs are tied, unless the new axis is the only one along which they differ."""

    module_class = _modules.Stack

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,) = ids.output_shapes
        dim = params.dim % len(shape)
        laid = torch.cat(_thin([one.unsqueeze(dim) for one in inputs], dim), dim)
        if any(ids.varies(laid, axis) for axis in range(len(shape)) if axis != dim):
            return ids.tie(*laid.split(1, dim)).expand(shape)
        ids.pin(laid, f"{self.spec.op} makes an axis of them")
        return laid.expand(shape)


def _thin(parts: Sequence[Tensor], dim: int) -> list[Tensor]:
    """Id tensors with size 1 on each axis but `dim` along which all of them are broadcast views."""
    axes = [axis for axis in range(parts[0].dim()) if axis != dim and all(one.stride(axis) == 0 for one in parts)]
    cut = tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(parts[0].dim()))
    return [one[cut] for one in parts]
