"""Gated linear unit: the first half of an axis times the sigmoid of the second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Shape
from amc_plugins.handlers import Params as BaseParams

__all__ = ["GLUHandler"]


class GLUHandler(LayerHandler):
    """Channel j of the first half and channel j of the second are one: they go together, so the halves stay equal.

    Y. Dauphin et al., Language Modeling with Gated Convolutional Networks, ICML 2017, equation 1.
    """

    class Params(BaseParams):
        dim: int = -1

    module_class = nn.GLU

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self.build(self.params(call.original), {}).train(call.original.training)
        dim = call.bind("input", dim=-1)["dim"]
        if not isinstance(dim, int):
            raise Declined(f"{call.target} along a computed axis")
        return nn.GLU(int(dim))

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        shape = list(inputs[0])
        shape[params.dim] //= 2
        return [tuple(shape)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return ids.tie(*inputs[0].chunk(2, params.dim))
