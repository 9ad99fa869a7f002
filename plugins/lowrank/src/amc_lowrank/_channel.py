"""k x k with n filters as k x k with d filters and 1 x 1: reduced-rank regression in patch space, and its older relatives.

Zhang, Zou, He and Sun, "Accelerating very deep convolutional networks for classification and detection", TPAMI 2015: section
3.1 (`svd`, the responses' principal components) and 3.3 (`gsvd`, asymmetric). `rrr` frees the first filters as well and
contains both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from amc_lowrank._layers import LayerInfo
from amc_lowrank._options import Fitted, Option, Scheme, Statistics, balanced, rank_grid, symmetric
from amc_plugins.compression import solve_gram

__all__ = ["ChannelFit", "ChannelScheme", "Solver", "reduced_rank"]

Solver = Literal["rrr", "gsvd", "svd"]


def reduced_rank(statistics: Statistics, info: LayerInfo, solver: Solver, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """All ranks of the best low-rank map from patches to responses at once.

    Returns U (n, n), R (n, m) and the relative error (n + 1,) per rank: the map of rank d is `U[:, :d] @ R[:d]`.

    Args:
        statistics: moments of x and y.
        info: its weights W (n, m) and the metric of the error.
        solver: `rrr` minimises `E||y - M x||^2` over M of rank d; `gsvd` over `M = M' W` with the given filters W; `svd` as
            `gsvd`, with orthogonal projections M' of the responses only.
        ridge: of `rrr`.
    """
    f, weight = info.metric, info.weight
    if solver == "svd" or statistics.weight is not None:
        # y = W x: the best map of full rank is W itself
        full = weight
        explained = symmetric(f @ statistics.output_gram @ f.T)
    elif solver == "gsvd":
        responses = weight @ statistics.gram @ weight.T
        cross = weight @ statistics.cross
        mixing = solve_gram(symmetric(responses), cross, per_unknown=statistics.per_unknown).T
        full = mixing @ weight
        explained = symmetric(f @ mixing @ cross @ f.T)
    else:
        # the ridge pulls towards W, not towards zero
        missing = statistics.cross - statistics.gram @ weight.T
        change = solve_gram(statistics.gram, missing, per_unknown=statistics.per_unknown, ridge=ridge, by_variance=True)
        full = weight + change.T
        explained = symmetric(f @ full @ statistics.cross @ f.T)
    energies, vectors = torch.linalg.eigh(explained)
    energies, vectors = energies.flip(0).clamp_min(0.0), vectors.flip(1)
    total = float(((f @ statistics.output_gram) * f).sum())
    kept = torch.cat((energies.new_zeros(1), energies.cumsum(0)))
    errors = (1.0 - kept / total).clamp_min(0.0) if total > 0 else torch.zeros_like(kept)
    return info.metric_inverse @ vectors, vectors.T @ f @ full, errors


@dataclass
class ChannelFit(Fitted):
    """U (n, r), R (r, m) for the largest rank r, and the means."""

    left: Tensor
    right: Tensor
    mean_x: Tensor
    mean_y: Tensor
    options: list[Option]

    def trimmed(self, used: set[Option]) -> ChannelFit:
        return replace(self, options=[option for option in self.options if option in used])

    def chain(self, info: LayerInfo, option: Option) -> list[nn.Module]:
        (rank,) = option.ranks
        left, right = balanced(self.left[:, :rank], self.right[:rank])
        bias = self.mean_y - left @ (right @ self.mean_x)
        return [info.first(right), info.pointwise(left, bias)]


class ChannelScheme(Scheme):
    """(d, k x k) and 1 x 1; for 1 x 1 convolutions and linear layers, two factors."""

    name = "channel"

    def __init__(self, solver: Solver = "rrr", ridge: float = 1e-2, choices: int = 48) -> None:
        self.solver: Solver = solver
        self.ridge = ridge
        self.choices = choices

    def applies(self, info: LayerInfo) -> bool:
        return True

    def fit(self, info: LayerInfo, statistics: Statistics) -> ChannelFit:
        left, right, errors = reduced_rank(statistics, info, self.solver, self.ridge)
        most = min((info.m * info.n - 1) // (info.m + info.n), info.m, info.n)
        options = [
            Option(self.name, (rank,), self._macs(info, rank), float(errors[rank])) for rank in rank_grid(most, self.choices)
        ]
        # clones, so that a pickle holds the slice and not what it was cut from
        return ChannelFit(left[:, :most].clone(), right[:most].clone(), statistics.mean_x, statistics.mean_y, options)

    def refit(self, info: LayerInfo, fitted: Fitted, option: Option, statistics: Statistics) -> tuple[list[nn.Module], float]:
        left, right, errors = reduced_rank(statistics, info, self.solver, self.ridge)
        fit = ChannelFit(left, right, statistics.mean_x, statistics.mean_y, [])
        return fit.chain(info, option), float(errors[option.ranks[0]])

    def _macs(self, info: LayerInfo, rank: int) -> int:
        positions = info.macs // (info.m * info.n)
        return rank * (info.m + info.n) * positions
