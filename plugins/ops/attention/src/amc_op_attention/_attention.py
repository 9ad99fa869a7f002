"""`vn.attention`: `F.scaled_dot_product_attention`.

A. Vaswani et al., Attention Is All You Need, NIPS 2017, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from amc_op_attention import _modules
from amc_op_attention._contract import contracted
from amc_plugins.handlers import Call, ChannelIds, Declined, Kept, LayerHandler, Params, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["AttentionHandler"]

_TENSORS = ("query", "key", "value", "attn_mask")


class AttentionParams(Params):
    """See `Attention`."""

    roles: list[str]
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False


class AttentionHandler(LayerHandler):
    """Channels inside a head: j of the queries and j of the keys go together, those of the values are the result's.

    Channels that are heads go from queries, keys and values alike. The scale stays what it was when channels go.
    """

    Params = AttentionParams
    module_class = _modules.Attention

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("query", "key", "value", attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False)
        named = {id(bound[name]): name for name in _TENSORS if isinstance(bound[name], Value)}
        roles = [named[id(value)] for value in call.values()]
        settings = {name: bound[name] for name in ("dropout_p", "is_causal", "scale", "enable_gqa")}
        if any(not isinstance(one, bool | int | float | None) for one in settings.values()):
            raise Declined(f"{call.target} with settings that the network computes")
        return _modules.Attention(roles, **settings)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        given = dict(zip(params.roles, inputs, strict=True))
        query, value = given["query"], given["value"]
        if any(given[name][:-2] != query[:-2] for name in ("key", "value")):
            return None
        return [(*query[:-1], value[-1])]

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        given = dict(zip(params.roles, inputs, strict=True))
        return prod(outputs[0][:-1]) * int(given["key"][-2] * (given["query"][-1] + given["value"][-1]))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = dict(zip(params.roles, inputs, strict=True))
        (shape,) = ids.output_shapes
        stack = "abcdefgh"[: len(shape) - 2]
        last = {"query": "le", "key": "se", "value": "sv", "attn_mask": "ls"}
        operands, letters = [], []
        for name, found in given.items():
            one = found
            if name != "attn_mask":
                one = ids.mixed(one, [-2], f"{self.spec.op} weighs them against each other")
            if name != "attn_mask" and params.enable_gqa:
                one = ids.mixed(one, range(one.dim() - 2), f"{self.spec.op} shares heads of keys among queries")
            operands.append(one)
            letters.append((stack + last[name])[-one.dim() :])
        return contracted(operands, letters, f"{stack}lv", ids, self.spec.op)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        query = dict(zip(one.roles, inputs, strict=True))["query"]
        if one.scale is not None or not query.restricts(-1):
            return module
        scale = 1.0 / math.sqrt(query.shape[-1])
        return _modules.Attention(one.roles, one.dropout_p, one.is_causal, scale, one.enable_gqa)
