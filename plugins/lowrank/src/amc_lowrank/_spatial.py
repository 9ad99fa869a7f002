"""k x k as k x 1 and 1 x k, fitted to the responses on data.

The shape is that of Jaderberg, Vedaldi and Zisserman, "Speeding up convolutional neural networks with low rank expansions",
BMVC 2014, section 2.2; the fit is `_split`'s over the columns of a patch: V are the d vertical filters, H the horizontal ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from amc_lowrank._layers import LayerInfo
from amc_lowrank._options import Fitted, Option, Scheme, Statistics, balanced, rank_grid
from amc_lowrank._split import SplitProblem, cut

__all__ = ["SpatialFit", "SpatialScheme", "spatial_chain"]

_CURVE_ROWS = 384
"""Layers with longer patch columns keep the starting V in their curves; the final refit alternates for every layer."""


@dataclass
class SpatialFit(Fitted):
    """V and H per rank, and the means."""

    filters: dict[int, tuple[Tensor, Tensor]]
    """V (c * kh, d) and H (kw, d, n), responses in their own units; in the layer's dtype, to spare memory."""
    mean_x: Tensor
    mean_y: Tensor
    options: list[Option]

    def trimmed(self, used: set[Option]) -> SpatialFit:
        ranks = {option.ranks[0] for option in used}
        kept = {rank: pair for rank, pair in self.filters.items() if rank in ranks}
        return replace(self, filters=kept, options=[option for option in self.options if option in used])

    def chain(self, info: LayerInfo, option: Option) -> list[nn.Module]:
        (rank,) = option.ranks
        v, h = self.filters[rank]
        return spatial_chain(info, v.double(), h.double(), self.mean_x, self.mean_y)


def spatial_chain(info: LayerInfo, v: Tensor, h: Tensor, mean_x: Tensor, mean_y: Tensor) -> list[nn.Module]:
    """(d, c, kh, 1) and (n, d, 1, kw) with a bias."""
    assert info.kernel is not None
    kh, kw = info.kernel
    d, n = v.shape[1], h.shape[2]
    flat, rows = balanced(h.permute(2, 0, 1).reshape(n * kw, d), v.T)
    means = cut(mean_x[None], info.kernel, "columns")[:, 0]
    vertical = rows.reshape(d, info.channels, kh, 1)
    horizontal = flat.reshape(n, kw, d)
    bias = mean_y - torch.einsum("nwd,dp,wp->n", horizontal, rows, means)
    return [
        info.part(vertical, None, columns=False),
        info.part(horizontal.permute(0, 2, 1)[:, :, None, :], bias, rows=False),
    ]


class SpatialScheme(Scheme):
    """k x 1 and 1 x k."""

    name = "spatial"

    def __init__(self, choices: int = 24, rounds: int = 3, curve_rounds: int = 1) -> None:
        self.choices = choices
        self.rounds = rounds
        self.curve_rounds = curve_rounds

    def applies(self, info: LayerInfo) -> bool:
        return info.spatial

    def fit(self, info: LayerInfo, statistics: Statistics) -> SpatialFit:
        problem = SplitProblem(info, statistics, "columns")
        most = min((info.macs - 1) // self._macs(info, 1), problem.p, problem.parts * info.n)
        start = problem.start()[:, :most]
        ranks = rank_grid(most, self.choices)
        filters: dict[int, tuple[Tensor, Tensor]] = {}
        options: list[Option] = []
        for rank, (v, h, error) in zip(ranks, self._curve(problem, start, ranks), strict=True):
            filters[rank] = v.to(info.dtype), (h @ info.metric_inverse.T).to(info.dtype)
            options.append(Option(self.name, (rank,), self._macs(info, rank), error))
        return SpatialFit(filters, statistics.mean_x, statistics.mean_y, options)

    def _curve(self, problem: SplitProblem, start: Tensor, ranks: Sequence[int]) -> Iterator[tuple[Tensor, Tensor, float]]:
        """V, H and the relative error for every rank."""
        if self.curve_rounds and problem.p <= _CURVE_ROWS:
            for rank in ranks:
                yield problem.alternated(start[:, :rank].contiguous(), self.curve_rounds)
        else:
            for rank, (h, cross) in zip(ranks, problem.nested(start, ranks), strict=True):
                yield start[:, :rank], h, problem.error(h, cross)

    def refit(self, info: LayerInfo, fitted: Fitted, option: Option, statistics: Statistics) -> tuple[list[nn.Module], float]:
        assert isinstance(fitted, SpatialFit)
        problem = SplitProblem(info, statistics, "columns")
        v, h, error = problem.alternated(fitted.filters[option.ranks[0]][0].double(), self.rounds)
        return spatial_chain(info, v, h @ info.metric_inverse.T, statistics.mean_x, statistics.mean_y), error

    def _macs(self, info: LayerInfo, rank: int) -> int:
        assert info.kernel is not None
        kh, kw = info.kernel
        vertical = info.channels * kh * info.out_map[0] * info.in_map[1]
        return rank * (vertical + info.n * kw * info.out_map[0] * info.out_map[1])
