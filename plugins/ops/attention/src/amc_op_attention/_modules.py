"""Products of matrices and attention as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AddMatrixProduct", "Attention", "Einsum", "MatrixProduct"]


class MatrixProduct(nn.Module):
    """`x @ y`: of two tensors, or of one and a constant `weight`, a matrix (c, n) on its right. `reversed` swaps the two."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reversed: bool = False, trainable: bool = True) -> None:
        super().__init__()
        self.reversed = reversed
        self.weight = None if weight is None else nn.Parameter(weight, requires_grad=trainable)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.weight is not None:
            return torch.matmul(x, self.weight)
        assert y is not None
        return torch.matmul(y, x) if self.reversed else torch.matmul(x, y)

    def extra_repr(self) -> str:
        return "" if self.weight is None else f"weight={tuple(self.weight.shape)}"


class AddMatrixProduct(nn.Module):
    """beta * input + alpha * (a @ b) of matrices, or of stacks of them (`stacked`).

    `roles` says which of `input`, `a` and `b` each tensor of a call is.
    """

    def __init__(self, roles: Sequence[str], beta: float = 1, alpha: float = 1, stacked: bool = False) -> None:
        super().__init__()
        self.roles = list(roles)
        self.stacked = stacked
        self.beta = beta
        self.alpha = alpha

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        given = dict(zip(self.roles, (x, y, z), strict=True))
        compute: Any = torch.baddbmm if self.stacked else torch.addmm
        total: Tensor = compute(given["input"], given["a"], given["b"], beta=self.beta, alpha=self.alpha)
        return total

    def extra_repr(self) -> str:
        return f"beta={self.beta}, alpha={self.alpha}"


class Einsum(nn.Module):
    """`torch.einsum(equation, *operands)`."""

    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, *operands: Tensor) -> Tensor:
        return torch.einsum(self.equation, *operands)

    def extra_repr(self) -> str:
        return self.equation


class Attention(nn.Module):
    """`F.scaled_dot_product_attention` of query (..., L, E), key (..., S, E), value (..., S, Ev) -> (..., L, Ev).

    Args:
        roles: which of `query`, `key`, `value`, `attn_mask` each tensor of a call is.
        dropout_p: share of attention weights dropped, in training mode only.
        is_causal: later keys are masked.
        scale: of the products; None: 1 / sqrt(E).
        enable_gqa: several heads of queries share a head of keys and values.
    """

    def __init__(
        self,
        roles: Sequence[str] = ("query", "key", "value"),
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        super().__init__()
        self.roles = list(roles)
        self.dropout_p = dropout_p
        self.is_causal = is_causal
        self.scale = scale
        self.enable_gqa = enable_gqa

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self.roles, tensors, strict=False))
        more = {"enable_gqa": True} if self.enable_gqa else {}  # older torch has no such argument
        return F.scaled_dot_product_attention(
            given["query"],
            given["key"],
            given["value"],
            given.get("attn_mask"),
            self.dropout_p if self.training else 0.0,
            self.is_causal,
            scale=self.scale,
            **more,
        )

    def extra_repr(self) -> str:
        return f"is_causal={self.is_causal}, scale={self.scale}"
