"""A chain of factors as one kernel, and its first factor from the kernel that the chain should have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["composed", "head_for"]


def composed(factors: Sequence[Tensor]) -> Tensor:
    """The kernel (n, c, kh, kw) of convolutions that run after each other without anything between.

    Args:
        factors: kernels (out, in, h, w) in running order; along each axis at most one of them is longer than 1.
    """
    kernel = factors[0]
    for factor in factors[1:]:
        kernel = _joined(factor, kernel)
    return kernel


def _joined(last: Tensor, first: Tensor) -> Tensor:
    n, _, a, b = last.shape
    _, c, e, f = first.shape
    return torch.einsum("ndab,dcef->ncaebf", last, first).reshape(n, c, a * e, b * f)


def head_for(tail: Tensor, kernel: Tensor, taps: tuple[int, int]) -> Tensor:
    """The first factor (d, c, e, f) for which `tail` after it comes nearest to a kernel, in the least-squares sense.

    Args:
        tail: (n, d, a, b), the rest of the chain as one kernel.
        kernel: (n, c, a e, b f).
        taps: (e, f).
    """
    n, d, a, b = tail.shape
    c = kernel.shape[1]
    split = kernel.reshape(n, c, a, taps[0], b, taps[1])
    inner = torch.einsum("ndab,nxab->dx", tail, tail)
    right = torch.einsum("ndab,ncaebf->dcef", tail, split)
    inner.diagonal().add_(1e-9 * float(inner.diagonal().mean()) + torch.finfo(inner.dtype).tiny)
    solved: Tensor = torch.linalg.solve(inner, right.flatten(1))
    return solved.reshape(d, c, *taps)
