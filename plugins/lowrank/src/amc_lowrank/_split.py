"""Patches cut into parts that share one projection: the least-squares problem behind `spatial` and `tucker2`.

A patch x is cut into parts x_w of p entries each: its columns (p = c * kh) or its taps (p = c). The response is fitted by
`y = sum_w H_w^T V^T x_w + b`. V starts from what would be best if parts were uncorrelated with each other, a weighted SVD; then
least squares for H given V (exact) and for V given H (conjugate gradients) alternate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from amc_lowrank._layers import LayerInfo
from amc_lowrank._options import Statistics, symmetric
from amc_plugins.compression import cholesky, solve_gram

__all__ = ["Parts", "SplitProblem", "cut"]

Parts = Literal["columns", "taps"]
_STEPS = 8
_RIDGE = 1e-9


def cut(rows: Tensor, kernel: tuple[int, int], parts: Parts) -> Tensor:
    """Rows (r, c * kh * kw) as (parts, r, p)."""
    order = (3, 0, 1, 2) if parts == "columns" else (2, 3, 0, 1)
    split = rows.reshape(len(rows), -1, *kernel).permute(order)
    count = kernel[1] if parts == "columns" else kernel[0] * kernel[1]
    return split.reshape(count, len(rows), -1).contiguous()


class SplitProblem:
    """Least squares over V (p, d) and H (parts, d, n). Responses are F y throughout, F the layer's metric."""

    def __init__(self, info: LayerInfo, statistics: Statistics, parts: Parts) -> None:
        assert info.kernel is not None
        kernel, self.n = info.kernel, info.n
        half = cut(statistics.gram, kernel, parts)
        self.parts, _, self.p = half.shape
        both = cut(half.transpose(1, 2).reshape(-1, info.m), kernel, parts)
        # (v, w, q, p) with x_w[q] and x_v[p] -> (w, q, v, p)
        both = both.reshape(self.parts, self.parts, self.p, self.p).permute(1, 2, 0, 3)
        self.gram = both.reshape(self.parts, self.p, self.parts * self.p)
        """E[x_w x_v^T] at [w, :, v]."""
        self.cross = cut(info.metric @ statistics.cross.T, kernel, parts).transpose(1, 2)
        """E[x_w y^T], (parts, p, n)."""
        self.weight = cut(info.metric @ info.weight, kernel, parts)
        """(parts, n, p)."""
        self.total = float(((info.metric @ statistics.output_gram) * info.metric).sum())
        diagonal = self.gram.reshape(self.parts, self.p, self.parts, self.p).diagonal(dim1=0, dim2=2)
        self.part = symmetric(diagonal.mean(-1))
        """E[x_w x_w^T] averaged over w."""
        self._inverse: Tensor | None = None

    def start(self) -> Tensor:
        """V (p, p) for all ranks: its first d columns are the best ones were parts uncorrelated with each other.

        Entries that never vary are projected out; then the last columns are zero.
        """
        factor, alive = cholesky(self.part)
        weighted = (self.weight[:, :, alive] @ factor).reshape(-1, len(alive))
        _, vectors = torch.linalg.eigh(symmetric(weighted.T @ weighted))
        start = torch.zeros_like(self.part)
        start[alive, : len(alive)] = torch.linalg.solve_triangular(factor.T, vectors.flip(1), upper=True)
        return start

    def features(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of f_w = V^T x_w: Gram (parts, d, parts, d) and cross (parts, d, n)."""
        half = (self.gram.reshape(-1, self.p) @ v).reshape(self.parts, self.p, -1)
        gram = (v.T @ half).reshape(self.parts, v.shape[1], self.parts, v.shape[1])
        return gram, v.T @ self.cross

    def solve_h(self, gram: Tensor, cross: Tensor) -> Tensor:
        """The best H for given features."""
        size = self.parts * gram.shape[1]
        return solve_gram(symmetric(gram.reshape(size, size)), cross.reshape(size, self.n), ridge=_RIDGE).reshape(cross.shape)

    def nested(self, v: Tensor, ranks: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """The best H (parts, d, n) and the features' cross moments (parts, d, n) for the first d columns of V, d in `ranks`.

        One factorisation for all: with the features in the order of V's columns, `L L^T` of their Gram matrix has that of the
        first d in its corner.
        """
        if not ranks:
            return
        gram, cross = self.features(v)
        size = self.parts * v.shape[1]
        factor, alive = cholesky(symmetric(gram.permute(1, 0, 3, 2).reshape(size, size)), ridge=_RIDGE)
        right = cross.transpose(0, 1).reshape(size, self.n)
        projected = torch.linalg.solve_triangular(factor, right[alive], upper=False)
        for rank in ranks:
            end = int((alive < rank * self.parts).sum())
            h = right.new_zeros(rank * self.parts, self.n)
            h[alive[:end]] = torch.linalg.solve_triangular(factor[:end, :end].T, projected[:end], upper=True)
            yield h.reshape(rank, self.parts, self.n).transpose(0, 1), cross[:, :rank]

    def outputs(self, h: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
        """Directions U (n, n) of the fitted responses, the most energetic first, and the relative error (n + 1,) if d are kept.

        The best H of rank d for the same features is `H U_d U_d^T`.
        """
        energies, vectors = torch.linalg.eigh(symmetric(h.reshape(-1, self.n).T @ cross.reshape(-1, self.n)))
        kept = torch.cat((energies.new_zeros(1), energies.flip(0).clamp_min(0.0).cumsum(0)))
        errors = (1.0 - kept / self.total).clamp_min(0.0) if self.total > 0 else torch.zeros_like(kept)
        return vectors.flip(1), errors

    def error(self, h: Tensor, cross: Tensor) -> float:
        """The relative error of the exact H."""
        return max(0.0, 1.0 - float((h * cross).sum()) / self.total) if self.total > 0 else 0.0

    def solve_v(self, v: Tensor, h: Tensor, steps: int = _STEPS) -> Tensor:
        """V improved for given H by `steps` of conjugate gradients on `sum_wu G_wu V (H_u H_w^T) = sum_w C_w H_w^T`."""
        d = v.shape[1]
        mixing = torch.einsum("udn,wen->wude", h, h)
        mixed = mixing.permute(2, 0, 1, 3).reshape(d, -1)

        def apply(x: Tensor) -> Tensor:
            parts = (x @ mixed).reshape(self.p, self.parts, self.parts, d).permute(1, 2, 0, 3)
            result: Tensor = (self.gram @ parts.reshape(self.parts, self.parts * self.p, d)).sum(0)
            return result

        right = torch.einsum("wpn,wdn->pd", self.cross, h)
        own = symmetric(mixing.diagonal(dim1=0, dim2=1).sum(-1))
        own = own + 1e-9 * float(own.diagonal().mean()) * torch.eye(d, dtype=v.dtype, device=v.device)
        inverse = torch.linalg.inv(own)
        residual = right - apply(v)
        direction = preconditioned = self._part_inverse() @ residual @ inverse
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
            preconditioned = self._part_inverse() @ residual @ inverse
            slope, before = float((residual * preconditioned).sum()), slope
            direction = preconditioned + (slope / before) * direction
        return v

    def alternated(self, v: Tensor, rounds: int, rank: int | None = None) -> tuple[Tensor, Tensor, float]:
        """V, H and the relative error after `rounds` of V and H steps; the error never rises. `rank` limits H's rank over n."""
        h, error = self._best(v, rank)
        for _ in range(rounds):
            trial = self.solve_v(v, h)
            trial_h, trial_error = self._best(trial, rank)
            if trial_error >= error:
                break
            v, h, error = trial, trial_h, trial_error
        return v, h, error

    def _best(self, v: Tensor, rank: int | None) -> tuple[Tensor, float]:
        gram, cross = self.features(v)
        h = self.solve_h(gram, cross)
        if rank is None or rank >= self.n:
            return h, self.error(h, cross)
        directions, errors = self.outputs(h, cross)
        top = directions[:, :rank]
        return h @ top @ top.T, float(errors[rank])

    def _part_inverse(self) -> Tensor:
        if self._inverse is None:
            factor, alive = cholesky(self.part)
            self._inverse = torch.zeros_like(self.part)
            self._inverse[alive[:, None], alive] = torch.cholesky_inverse(factor)
        return self._inverse
