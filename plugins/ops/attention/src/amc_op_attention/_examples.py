"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_op_attention._multihead import MultiheadAttention

__all__ = ["examples"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class _Projected(nn.Module):
    """`x @ weight`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(random(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    x, y = random(2, 5, 6), random(2, 6, 4, seed=1)
    q, k, v = (random(2, 2, 5, 6, seed=seed) for seed in range(3))
    calls: dict[str, list[tuple[Any, ...]]] = {
        "matmul": [(torch.matmul, x, y), (lambda a: a @ a.transpose(1, 2), x), (_Projected(), x), (torch.mm, x[:, 0], y[0])],
        "addmm": [(torch.baddbmm, random(2, 5, 4), x, y), (torch.addmm, random(4), x[:, 0], y[0])],
        "einsum": [(lambda a, b: torch.einsum("bij,bjk->bik", a, b), x, y), (lambda a: torch.einsum("bij->bji", a), x)],
        "attention": [
            (F.scaled_dot_product_attention, q, k, v),
            (lambda a, b, c: F.scaled_dot_product_attention(a, b, c, is_causal=True, scale=0.5), q, k, v),
        ],
        "multihead_attention": [
            (_SelfAttention(2), random(2, 5, 8)),
            (_SelfAttention(4), random(2, 5, 8)),
        ],
    }
    return calls[name]


class _SelfAttention(nn.Module):
    """Attention of a sequence with itself as one module."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        inner = nn.MultiheadAttention(8, heads, batch_first=True)
        self.attention = MultiheadAttention(inner, need_weights=False)

    def forward(self, x: Tensor) -> Any:
        return self.attention(x, x, x)
