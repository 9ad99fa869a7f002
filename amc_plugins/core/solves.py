"""Least squares from second moments: Cholesky with a ridge that grows only when it must."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

from amc_plugins.core.errors import GraphError

__all__ = ["RIDGE", "cholesky", "solve_gram"]

RIDGE = 1e-6
"""Added to the diagonal, relative to its mean."""
_RIDGE_FEW = 1e-2
_FEW = 5.0
"""Below so many samples per unknown a stronger ridge predicts fresh samples better (measured)."""
_DEAD = 1e-12

_log = logging.getLogger(__name__)


def cholesky(
    gram: Tensor, *, per_unknown: float = math.inf, ridge: float = RIDGE, by_variance: bool = False
) -> tuple[Tensor, Tensor]:
    """The lower factor L of `G + ridge` on the entries that ever vary, and their indices.

    Args:
        gram: (m, m) centred moments, float64. Entries whose variance is nothing against the largest (dead channels) are left
            out: they carry no information and would only be regularised into existence.
        per_unknown: samples per unknown; few of them raise the ridge to 1e-2.
        ridge: relative to the mean of the diagonal; multiplied by 100, and logged, as long as the factorisation fails.
        by_variance: the ridge is relative to an entry's own variance where that is above the mean.

    Raises:
        GraphError: the moments are not finite.
    """
    diagonal = gram.diagonal()
    if not bool(torch.isfinite(diagonal).all()):
        raise GraphError("the second moments are not finite", hint="look for infinities in the network's activations")
    alive = (diagonal > _DEAD * diagonal.max()).nonzero().flatten()
    if len(alive) < len(gram):
        gram = gram[alive][:, alive]
    mean = float(gram.diagonal().mean()) if len(alive) else 0.0
    scale = gram.diagonal().clamp_min(mean) if by_variance else torch.full_like(gram.diagonal(), mean)
    relative = max(ridge, _RIDGE_FEW) if per_unknown < _FEW else ridge
    while True:
        factor, failed = torch.linalg.cholesky_ex(gram + (relative * scale).diag())
        if not int(failed):
            return factor, alive
        relative = max(100 * relative, RIDGE)
        _log.info("ill-conditioned moments (%d unknowns): ridge raised to %.0e of the mean variance", len(gram), relative)


def solve_gram(
    gram: Tensor, right: Tensor, *, per_unknown: float = math.inf, ridge: float = RIDGE, by_variance: bool = False
) -> Tensor:
    """`G^-1 right`, (m, k) float64, regularised as in `cholesky`; rows of dead entries are zero."""
    factor, alive = cholesky(gram, per_unknown=per_unknown, ridge=ridge, by_variance=by_variance)
    solution = right.new_zeros(right.shape)
    if len(alive):
        solution[alive] = torch.cholesky_solve(right[alive], factor)
    return solution
