"""Softmax and its logarithm. Removing an entry changes all others along the axis, so channels on it stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Shape
from amc_plugins.handlers import Params as BaseParams

__all__ = ["LogSoftmaxHandler", "SoftmaxHandler"]


class SoftmaxHandler(LayerHandler):
    """exp(x) / sum(exp(x)) along `dim`."""

    class Params(BaseParams):
        dim: int

    module_class: ClassVar[type[nn.Module] | None] = nn.Softmax

    def module(self, call: Call) -> nn.Module:
        if isinstance(call.original, nn.Softmax2d):
            return self.build(self.Params(dim=-3), {}).train(call.original.training)
        if call.original is not None:
            return self.build(self.Params(dim=_axis(call, call.original.dim)), {}).train(call.original.training)
        bound = call.bind("input", dim=None, **_rest(call))
        if bound["dtype"] not in (None, call.values()[0].dtype):
            raise Declined(f"{call.target} with `dtype={bound['dtype']}`")
        return self.build(self.Params(dim=_axis(call, bound["dim"])), {})

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        return [tuple(inputs[0])]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        one = inputs[0]
        if one.dim() and ids.varies(one, params.dim):
            ids.pin(one, f"{self.spec.op} is taken over channels")
        return one


class LogSoftmaxHandler(SoftmaxHandler):
    """x - log(sum(exp(x))) along `dim`."""

    module_class = nn.LogSoftmax


def _rest(call: Call) -> dict[str, Any]:
    """What follows (input, dim): `_stacklevel` and `dtype` for the functional, else `dtype`."""
    return {"_stacklevel": 3, "dtype": None} if call.target.startswith("torch.nn.functional.") else {"dtype": None}


def _axis(call: Call, dim: Any) -> int:
    if dim is None:  # torch's deprecated default
        return 0 if len(call.values()[0].shape) in {0, 1, 3} else 1
    if not isinstance(dim, int):
        raise Declined(f"{call.target} along a computed axis")
    return int(dim)
