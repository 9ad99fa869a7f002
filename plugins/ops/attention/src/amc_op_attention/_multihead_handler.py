"""`vn.multihead_attention`: `nn.MultiheadAttention`.

A. Vaswani et al., Attention Is All You Need, NIPS 2017, section 3.2.2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from pydantic import BaseModel, PositiveInt
from torch import Tensor, nn

from amc_op_attention._multihead import MultiheadAttention, ProjectedAttention
from amc_op_attention._unfold import unfolded
from amc_plugins.handlers import Call, ChannelIds, Declined, Kept, LayerHandler, Params, Shape, Value, assign_tensors

__all__ = ["MultiheadAttentionHandler"]

_TENSORS = ("query", "key", "value", "key_padding_mask", "attn_mask")
_CALL = ("roles", "need_weights", "average_attn_weights", "is_causal")
_WIDTHS = ("query_dim", "kdim", "vdim", "out_dim")


class MultiheadParams(Params):
    """As in `torch.nn.MultiheadAttention` and its call; `roles`: which of the arguments each tensor of the call is.

    `query_dim` and `out_dim` differ from `embed_dim` where channels were removed; `packed`: one matrix for the three inputs.
    """

    roles: list[str]
    embed_dim: PositiveInt
    num_heads: PositiveInt
    query_dim: PositiveInt
    kdim: PositiveInt
    vdim: PositiveInt
    out_dim: PositiveInt
    packed: bool = True
    dropout: float = 0.0
    bias: bool = True
    add_bias_kv: bool = False
    add_zero_attn: bool = False
    batch_first: bool = False
    need_weights: bool = True
    average_attn_weights: bool = True
    is_causal: bool = False


class MultiheadAttentionHandler(LayerHandler):
    """Reads the channels of its inputs and makes those of its output; its heads are inside and stay.

    Inputs that share one matrix (`packed`) are cut alike, so their channels are tied.
    """

    Params = MultiheadParams

    def unfolded(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return unfolded(func)

    def module(self, call: Call) -> nn.Module:
        if isinstance(call.original, MultiheadAttention):
            return copy.deepcopy(call.original)
        original: Any = call.original
        if original is None:
            raise Declined(f"{call.target} outside its module")
        bound = call.bind(
            "query", "key", "value", key_padding_mask=None, need_weights=True, attn_mask=None, average_attn_weights=True,
            is_causal=False,
        )  # fmt: skip
        named = {id(bound[name]): name for name in _TENSORS if isinstance(bound[name], Value)}
        roles = [named[id(value)] for value in call.values()]
        settings = {name: bool(bound[name]) for name in ("need_weights", "average_attn_weights", "is_causal")}
        return MultiheadAttention(copy.deepcopy(original), roles, **settings).train(original.training)

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        inner = one.attention
        shared = {name: getattr(inner, name) for name in ("embed_dim", "num_heads", "kdim", "vdim", "dropout", "batch_first")}
        widths = {name: getattr(inner, name, inner.embed_dim) for name in ("query_dim", "out_dim")}
        return MultiheadParams(
            **{name: getattr(one, name) for name in _CALL},
            **shared,
            **widths,
            packed="in_proj_weight" in dict(inner.named_parameters()),
            bias=inner.in_proj_bias is not None,
            add_bias_kv=getattr(inner, "bias_k", None) is not None,
            add_zero_attn=getattr(inner, "add_zero_attn", False),
        )

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        names = ("embed_dim", "num_heads", "dropout", "bias", "batch_first")
        shared = {name: getattr(params, name) for name in names}
        whole = params.query_dim == params.out_dim == params.embed_dim
        if whole and params.packed == (params.kdim == params.vdim == params.embed_dim):
            extra = {name: getattr(params, name) for name in ("add_bias_kv", "add_zero_attn", "kdim", "vdim")}
            inner: nn.Module = nn.MultiheadAttention(**shared, **extra, device="meta")
        else:
            widths = {name: getattr(params, name) for name in _WIDTHS}
            inner = ProjectedAttention(**shared, **widths, packed=params.packed, device="meta")
        module = MultiheadAttention(inner, **{name: getattr(params, name) for name in _CALL})
        assign_tensors(module, tensors)
        return module

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        given = dict(zip(params.roles, inputs, strict=True))
        query, key = given["query"], given["key"]
        tokens = 0 if len(key) == 2 else 1 if params.batch_first else 0
        sources = key[tokens] + int(params.add_bias_kv) + int(params.add_zero_attn)
        projections = prod(query[:-1]) * (params.query_dim + params.out_dim) + prod(key[:-1]) * (params.kdim + params.vdim)
        return int(params.embed_dim * (projections + 2 * prod(query[:-1]) * sources))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        given = dict(zip(params.roles, inputs, strict=True))
        vectors = []
        for name in ("query", "key", "value"):
            one = ids.mixed(given[name], range(given[name].dim() - 1), f"{self.spec.op} weighs them against each other")
            vectors.append(ids.channels(one, -1))
        for name in ("key_padding_mask", "attn_mask"):
            if name in given:
                ids.pin(given[name], f"{self.spec.op} masks with them")
        if params.packed:
            ids.tie(*vectors)
        out = ids.new(params.out_dim, axis=-1)
        if params.add_bias_kv or params.add_zero_attn:
            for one in (*vectors, out):
                ids.pin(one, f"{self.spec.op} with biases or zeros among its keys")
        return [out, ids.fixed(f"attention weights made by {self.spec.op}", 1)] if params.need_weights else [out]

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        params: Any = self.params(module)
        given = dict(zip(params.roles, inputs, strict=True))
        query, key, value = (given[name].axis(-1) for name in ("query", "key", "value"))
        if not any(one.restricts(-1) for one in (given["query"], given["key"], given["value"], outputs[0])):
            return module
        out = outputs[0].axis(-1)
        columns = {"in_proj_weight": query, "q_proj_weight": query, "k_proj_weight": key, "v_proj_weight": value}
        tensors = {}
        for slot, tensor in self.tensors(module).items():
            name = slot.removeprefix("attention.")
            if name in columns:
                tensors[slot] = tensor.index_select(1, columns[name].to(tensor.device))
            elif name.startswith("out_proj."):
                tensors[slot] = tensor.index_select(0, out.to(tensor.device))
            else:
                tensors[slot] = tensor
        update = {"query_dim": len(query), "kdim": len(key), "vdim": len(value), "out_dim": len(out)}
        return self.build(params.model_copy(update=update), tensors)
