"""Errors and weights of a consumer for every admissible count of a channel group, from one factorisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amc_pruning._problems import Consumer, Problem, factor, threads_for

__all__ = ["Fitted", "NestedFit", "fit_kept", "nested_fit", "relative_error", "removed_bias"]


@dataclass(frozen=True)
class Fitted:
    """A consumer on some of its input channels: what `LinearMap.rebuilt` takes."""

    weight: Tensor
    """(n, m'), columns in the order of the layer's own."""
    bias: Tensor
    """(n,): absorbs what removed channels contribute on average."""


@dataclass(frozen=True)
class NestedFit:
    """One consumer for each of the counts of one group, whose channels are dropped from the end of `order`."""

    consumer: str
    errors: tuple[float, ...]
    """Relative squared error per count."""
    fits: tuple[Fitted, ...]


def nested_fit(consumer: Consumer, order: Tensor, counts: Sequence[int], dtype: torch.dtype) -> NestedFit:
    """Least squares on the first k channels of `order` (beside the columns of other groups), for k in `counts` (ascending).

    With the columns of G in that order, G = L L^T, Z = L^-1 C and R = L^-1, a leading block of the problem needs leading blocks
    only: the error is `tr Q - |Z_1..k|^2`, the weights are `R_1..k^T Z_1..k`, and both grow by one product from count to count.

    Args:
        dtype: of the weights kept.
    """
    weights: list[list[Tensor]] = [[] for _ in counts]
    explained = [0.0 for _ in counts]
    total = 0.0
    for problem in consumer.problems():
        total = problem.total
        with threads_for(len(problem.gram)):
            found = _nested(problem, order, counts)
        for index, (weight, energy) in enumerate(found):
            weights[index].append(weight.to(dtype))
            explained[index] += energy
    fits = []
    for index, count in enumerate(counts):
        weight = torch.cat(weights[index])
        fits.append(Fitted(weight, removed_bias(consumer, weight, order[count:]).to(dtype)))
    errors = [max(0.0, 1.0 - energy / total) if total > 0 else 0.0 for energy in explained]
    return NestedFit(consumer.name, tuple(errors), tuple(fits))


def _nested(problem: Problem, order: Tensor, counts: Sequence[int]) -> list[tuple[Tensor, float]]:
    """Per count: the weights on ascending columns, and how much of tr Q (in the metric) they explain."""
    ids, back = order.sort()
    laid = problem.columns_of(ids)[torch.argsort(back)]
    others = problem.others(ids)
    device = problem.gram.device
    present = laid >= 0
    ends = len(others) + present.sum(1).cumsum(0)
    sequence = torch.cat([others, laid[present]]).to(device)
    lower = factor(problem.gram[sequence][:, sequence], problem.damping())
    projected = torch.linalg.solve_triangular(lower, problem.cross[sequence], upper=False)
    inverse = torch.linalg.solve_triangular(lower, torch.eye(len(lower), dtype=lower.dtype, device=device), upper=False)
    energy = (projected * problem.metric).square().sum(1).cumsum(0)
    grown = torch.zeros(len(sequence), len(problem.metric), dtype=torch.float64, device=device)
    found = []
    start = 0
    for count in counts:
        end = int(ends[count - 1])
        grown[:end] += inverse[start:end, :end].T @ projected[start:end]
        start = end
        ascending = torch.argsort(sequence[:end])
        found.append((grown[:end][ascending].T.contiguous(), float(energy[end - 1])))
    return found


def removed_bias(consumer: Consumer, weight: Tensor, removed: Tensor) -> Tensor:
    """`mean_y - W' mean_x` on the channels that are left."""
    one = consumer.moments
    columns = consumer.channels.repeat_interleave(one.taps)
    stays = (~torch.isin(columns, removed)).to(one.mean_x.device)
    means = one.mean_x[stays].reshape(one.groups, -1, 1)
    return one.mean_y - (weight.double().reshape(one.groups, -1, weight.shape[1]) @ means).flatten()


def fit_kept(consumer: Consumer, removed: Tensor, dtype: torch.dtype) -> Fitted:
    """Least squares on all channels but `removed`: one solve, for sets that no nested order covers."""
    weights = []
    for problem in consumer.problems():
        stays = (~torch.isin(problem.columns, removed)).nonzero().flatten().to(problem.gram.device)
        lower = factor(problem.gram[stays][:, stays], problem.damping())
        weights.append(torch.cholesky_solve(problem.cross[stays], lower).T.to(dtype))
    weight = torch.cat(weights)
    return Fitted(weight, removed_bias(consumer, weight, removed).to(dtype))


def relative_error(consumer: Consumer, fitted: Fitted, removed: Tensor) -> float:
    """Squared error of any weights on the channels that are left, relative to the spread of the responses, in the metric."""
    error, total = 0.0, 0.0
    for problem, weight in zip(consumer.problems(), fitted.weight.double().chunk(consumer.moments.groups), strict=True):
        stays = (~torch.isin(problem.columns, removed)).nonzero().flatten().to(problem.gram.device)
        left, scaled = problem.gram[stays][:, stays], weight * problem.metric[:, None]
        explained = 2 * (problem.scaled_cross[stays].T * scaled).sum() - ((scaled @ left) * scaled).sum()
        error -= float(explained)
        total = problem.total
    return max(0.0, 1.0 + error / total) if total > 0 else 0.0
