"""k x k as k x 1 and 1 x k, fitted to the responses on data.

The shape is that of Jaderberg, Vedaldi and Zisserman, "Speeding up convolutional neural networks with low rank expansions", BMVC
2014, section 2.2. With x_w the columns of a patch (p = c * kh entries each), the response is `y = sum_w H_w V^T x_w + b`: V
are the d vertical filters, H_w the n horizontal ones at tap w. V starts from what would be best if columns were uncorrelated
with each other, a weighted SVD; then least squares for H given V (exact) and for V given H (conjugate gradients) alternate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc_lowrank._layers import LayerInfo
from amc_lowrank._options import Fitted, Option, Scheme, Statistics, balanced, rank_grid, symmetric
from amc_plugins.compression import cholesky, solve_gram

__all__ = ["SpatialFit", "SpatialProblem", "SpatialScheme"]

_CURVE_ROWS = 1024
"""Layers with longer patch columns keep the starting V in their curves; the final refit alternates for every layer."""
_STEPS = 8
_RIDGE = 1e-9


class SpatialProblem:
    """Least squares over V (p, d) and H (kw, d, n). Responses are scaled by the layer's metric throughout."""

    def __init__(self, info: LayerInfo, statistics: Statistics) -> None:
        assert info.kernel is not None
        kh, self.kw = info.kernel
        c, n = info.channels, info.n
        self.p = c * kh
        gram = statistics.gram.reshape(c, kh, self.kw, c, kh, self.kw).permute(2, 0, 1, 5, 3, 4)
        self.gram = gram.reshape(self.kw, self.p, self.kw * self.p)
        """E[x_w x_v^T] at [w, :, v]."""
        self.cross = _columns((statistics.cross * info.metric).T, c, kh, self.kw).transpose(1, 2)
        """E[x_w y^T], (kw, p, n)."""
        self.weight = _columns(info.metric[:, None] * info.weight, c, kh, self.kw)
        """(kw, n, p)."""
        self.total = float((info.metric.square() * statistics.output_gram.diagonal()).sum())
        diagonal = self.gram.reshape(self.kw, self.p, self.kw, self.p).diagonal(dim1=0, dim2=2)
        self.column = symmetric(diagonal.mean(-1))
        """E[x_w x_w^T] averaged over w."""
        self.n = n
        self._inverse: Tensor | None = None

    def start(self) -> Tensor:
        """V (p, p) for all ranks: the first d columns minimise `sum_w E||H_w (V^T x_w - ...)||^2` were columns uncorrelated."""
        ridge = 1e-6 * float(self.column.diagonal().mean()) * torch.eye(self.p, dtype=torch.float64, device=self.column.device)
        factor = torch.linalg.cholesky(self.column + ridge)
        weighted = self.weight @ factor
        _, vectors = torch.linalg.eigh(symmetric(torch.einsum("wnp,wnq->pq", weighted, weighted)))
        start: Tensor = torch.linalg.solve_triangular(factor.T, vectors.flip(1), upper=True)
        return start

    def features(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of f_w = V^T x_w: Gram (kw, d, kw, d) and cross (kw, d, n)."""
        half = self.gram.reshape(self.kw * self.p * self.kw, self.p) @ v
        half = half.reshape(self.kw, self.p, -1)
        gram = (v.T @ half).reshape(self.kw, v.shape[1], self.kw, v.shape[1])
        return gram, v.T @ self.cross

    def solve_h(self, gram: Tensor, cross: Tensor) -> tuple[Tensor, float]:
        """The best H for given features, and the relative error."""
        size = self.kw * gram.shape[1]
        flat = cross.reshape(size, self.n)
        h = solve_gram(symmetric(gram.reshape(size, size)), flat, ridge=_RIDGE)
        explained = float((h * flat).sum())
        error = max(0.0, 1.0 - explained / self.total) if self.total > 0 else 0.0
        return h.reshape(cross.shape), error

    def solve_v(self, v: Tensor, h: Tensor, steps: int = _STEPS) -> Tensor:
        """V improved for given H by `steps` of conjugate gradients on `sum_wu G_wu V (H_u H_w^T) = sum_w C_w H_w^T`."""
        d = v.shape[1]
        mixing = torch.einsum("udn,wen->wude", h, h)
        mixed = mixing.permute(2, 0, 1, 3).reshape(d, -1)

        def apply(x: Tensor) -> Tensor:
            columns = (x @ mixed).reshape(self.p, self.kw, self.kw, d).permute(1, 2, 0, 3).reshape(self.kw, self.kw * self.p, d)
            result: Tensor = (self.gram @ columns).sum(0)
            return result

        right = torch.einsum("wpn,wdn->pd", self.cross, h)
        damping = mixing.diagonal(dim1=0, dim2=1).sum(-1)
        damping = symmetric(damping)
        damping = damping + 1e-9 * float(damping.diagonal().mean()) * torch.eye(d, dtype=v.dtype, device=v.device)
        inverse = torch.linalg.inv(damping)
        residual = right - apply(v)
        direction = preconditioned = self._column_inverse() @ residual @ inverse
        slope = first = float((residual * preconditioned).sum())
        for _ in range(steps):
            if slope <= 1e-10 * first:
                break
            image = apply(direction)
            curvature = float((direction * image).sum())
            if curvature <= 0.0:
                break
            v = v + (slope / curvature) * direction
            residual = residual - (slope / curvature) * image
            preconditioned = self._column_inverse() @ residual @ inverse
            slope, before = float((residual * preconditioned).sum()), slope
            direction = preconditioned + (slope / before) * direction
        return v

    def alternated(self, v: Tensor, rounds: int) -> tuple[Tensor, Tensor, float]:
        """V, H and the relative error after `rounds` of V and H steps; the error never rises."""
        h, error = self.solve_h(*self.features(v))
        for _ in range(rounds):
            trial = self.solve_v(v, h)
            trial_h, trial_error = self.solve_h(*self.features(trial))
            if trial_error >= error:
                break
            v, h, error = trial, trial_h, trial_error
        return v, h, error

    def _column_inverse(self) -> Tensor:
        if self._inverse is None:
            factor, alive = cholesky(self.column)
            self._inverse = torch.zeros_like(self.column)
            self._inverse[alive[:, None], alive] = torch.cholesky_inverse(factor)
        return self._inverse


def _columns(rows: Tensor, c: int, kh: int, kw: int) -> Tensor:
    """(n, c * kh * kw) as (kw, n, c * kh)."""
    return rows.reshape(-1, c, kh, kw).permute(3, 0, 1, 2).reshape(kw, -1, c * kh).contiguous()


@dataclass
class SpatialFit(Fitted):
    """V and H per rank, and the means."""

    filters: dict[int, tuple[Tensor, Tensor]]
    """V (p, d) and H (kw, d, n), responses in their own units."""
    mean_x: Tensor
    mean_y: Tensor
    options: list[Option]

    def chain(self, info: LayerInfo, option: Option) -> list[nn.Module]:
        (rank,) = option.ranks
        return spatial_chain(info, *self.filters[rank], self.mean_x, self.mean_y)


def spatial_chain(info: LayerInfo, v: Tensor, h: Tensor, mean_x: Tensor, mean_y: Tensor) -> list[nn.Module]:
    """(d, c, kh, 1) and (n, d, 1, kw) with a bias."""
    assert info.kernel is not None
    kh, kw = info.kernel
    d, n = v.shape[1], h.shape[2]
    flat, rows = balanced(h.permute(2, 0, 1).reshape(n * kw, d), v.T)
    means = _columns(mean_x[None], info.channels, kh, kw)[:, 0]
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
        problem = SpatialProblem(info, statistics)
        most = min((info.macs - 1) // self._macs(info, 1), problem.p, problem.kw * info.n)
        start = problem.start()[:, :most]
        gram, cross = problem.features(start)
        filters: dict[int, tuple[Tensor, Tensor]] = {}
        options: list[Option] = []
        for rank in rank_grid(most, self.choices):
            v = start[:, :rank]
            if problem.p <= _CURVE_ROWS:
                v, h, error = problem.alternated(v, self.curve_rounds)
            else:
                h, error = problem.solve_h(gram[:, :rank, :, :rank], cross[:, :rank])
            filters[rank] = v.clone(), h / info.metric
            options.append(Option(self.name, (rank,), self._macs(info, rank), error))
        return SpatialFit(filters, statistics.mean_x, statistics.mean_y, options)

    def refit(self, info: LayerInfo, fitted: Fitted, option: Option, statistics: Statistics) -> tuple[list[nn.Module], float]:
        assert isinstance(fitted, SpatialFit)
        problem = SpatialProblem(info, statistics)
        v, h, error = problem.alternated(fitted.filters[option.ranks[0]][0], self.rounds)
        return spatial_chain(info, v, h / info.metric, statistics.mean_x, statistics.mean_y), error

    def _macs(self, info: LayerInfo, rank: int) -> int:
        assert info.kernel is not None
        kh, kw = info.kernel
        vertical = info.channels * kh * info.out_map[0] * info.in_map[1]
        return rank * (vertical + info.n * kw * info.out_map[0] * info.out_map[1])
