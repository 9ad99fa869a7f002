"""`nn.MultiheadAttention` as a module that is called with tensors only, and what is left of it when channels go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MultiheadAttention", "ProjectedAttention"]


class MultiheadAttention(nn.Module):
    """Attention with its projections, and the settings of the recorded call.

    Args:
        attention: `nn.MultiheadAttention`, or a `ProjectedAttention`, which computes the same with other widths.
        roles: which argument of `nn.MultiheadAttention.forward` each tensor of a call is.
        need_weights: whether the attention weights are a second output.
        average_attn_weights: whether those are averaged over the heads.
        is_causal: a hint that `attn_mask` is causal.
    """

    def __init__(
        self,
        attention: nn.Module,
        roles: Sequence[str] = ("query", "key", "value"),
        need_weights: bool = True,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.roles = list(roles)
        self.need_weights = need_weights
        self.average_attn_weights = average_attn_weights
        self.is_causal = is_causal

    def forward(self, *tensors: Tensor) -> Any:
        given = dict(zip(self.roles, tensors, strict=False))
        found = self.attention(
            given["query"],
            given["key"],
            given["value"],
            given.get("key_padding_mask"),
            self.need_weights,
            given.get("attn_mask"),
            self.average_attn_weights,
            self.is_causal,
        )
        return (found[0], found[1]) if self.need_weights else found[0]


class ProjectedAttention(nn.Module):
    """Heads of width `embed_dim / num_heads` between projections from and to other widths than `embed_dim`.

    The tensors have the names that they have in `nn.MultiheadAttention`.

    Args:
        packed: one `in_proj_weight` (3 * embed_dim, query_dim) for inputs of one width, else one matrix for each.
    """

    q_proj_weight: Tensor
    k_proj_weight: Tensor
    v_proj_weight: Tensor
    in_proj_weight: Tensor
    in_proj_bias: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        query_dim: int,
        kdim: int,
        vdim: int,
        out_dim: int,
        *,
        packed: bool = True,
        bias: bool = True,
        dropout: float = 0.0,
        batch_first: bool = False,
        device: Any = None,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.query_dim, self.kdim, self.vdim, self.out_dim = query_dim, kdim, vdim, out_dim
        self.packed = packed
        self.dropout = dropout
        self.batch_first = batch_first
        if packed:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, query_dim, device=device))
        else:
            for name, size in (("q", query_dim), ("k", kdim), ("v", vdim)):
                setattr(self, f"{name}_proj_weight", nn.Parameter(torch.empty(embed_dim, size, device=device)))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * embed_dim, device=device)) if bias else None
        self.out_proj = nn.Linear(embed_dim, out_dim, bias, device=device)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        batched = query.dim() == 3
        q, k, v = (self._heads(name, one, batched) for name, one in (("q", query), ("k", key), ("v", value)))
        scale = (self.embed_dim // self.num_heads) ** -0.5
        scores = (q * scale) @ k.transpose(-2, -1)  # (N, heads, L, S)
        for mask in self._masks(attn_mask, key_padding_mask, scores):
            scores = scores.masked_fill(mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        mixed = (weights @ v).transpose(1, 2).flatten(2)  # (N, L, embed_dim)
        out = self.out_proj(mixed)
        if average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out[0], weights[0] if need_weights else None
        return out if self.batch_first else out.transpose(0, 1), weights if need_weights else None

    def _heads(self, name: str, x: Tensor, batched: bool) -> Tensor:
        """The projection of an input as (N, heads, tokens, width)."""
        place = "qkv".index(name)
        weight = self.in_proj_weight.chunk(3)[place] if self.packed else getattr(self, f"{name}_proj_weight")
        bias = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[place]
        if not batched:
            x = x[None]
        elif not self.batch_first:
            x = x.transpose(0, 1)
        heads: Tensor = F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1))
        return heads.transpose(1, 2)

    def _masks(self, attn_mask: Tensor | None, padding: Tensor | None, scores: Tensor) -> list[Tensor]:
        masks = []
        if attn_mask is not None:
            masks.append(attn_mask if attn_mask.dim() == 2 else attn_mask.view(scores.shape))
        if padding is not None:
            masks.append((padding if padding.dim() == 2 else padding[None])[:, None, None, :])
        return masks
