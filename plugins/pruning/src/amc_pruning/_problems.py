"""What pruning channels means for the layers that read them: a least-squares problem per layer (per group of a grouped one)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from amc_plugins.compression import following_norm, norm_gain

if TYPE_CHECKING:
    from amc_plugins.compression import LayerMoments
    from amc_plugins.graph import ChannelMap, ReconstructedNetwork

__all__ = [
    "Consumer",
    "Problem",
    "factor",
    "inverse_spd",
    "norm_scale",
    "threads_for",
]


@dataclass
class Problem:
    """`response ~ W patch`, columns labelled by channel. Moments are centred and divided by the number of samples."""

    gram: Tensor
    """G (m, m) float64."""
    cross: Tensor
    """C (m, n) float64, in plain responses."""
    weight: Tensor
    """(n, m) float64: the layer as it is."""
    metric: Tensor
    """(n,): the weight of each response in errors, not squared."""
    total: float
    """tr Q in that metric."""
    columns: Tensor
    """(m,): the channel id of each column."""
    ridge: float
    """Relative to the mean of G's diagonal."""

    @property
    def scaled_cross(self) -> Tensor:
        return self.cross * self.metric

    def damping(self) -> float:
        """What is added to the diagonal of G."""
        return self.ridge * float(self.gram.diagonal().mean()) + torch.finfo(torch.float64).tiny

    def columns_of(self, ids: Tensor) -> Tensor:
        """(a, q): the columns of each channel in `ids` (ascending), -1 where a channel has fewer than the others."""
        place = torch.searchsorted(ids, self.columns).clamp(max=len(ids) - 1)
        mine = (ids[place] == self.columns).nonzero().flatten()
        order = mine[torch.argsort(place[mine], stable=True)]
        counts = torch.bincount(place[mine], minlength=len(ids))
        width = max(1, int(counts.max()))
        rank = torch.arange(len(order)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        laid = torch.full((len(ids), width), -1, dtype=torch.long)
        laid[torch.repeat_interleave(torch.arange(len(ids)), counts), rank] = order
        return laid

    def others(self, ids: Tensor) -> Tensor:
        """The columns that belong to none of `ids`."""
        return (~torch.isin(self.columns, ids)).nonzero().flatten()


@dataclass
class Consumer:
    """A layer that reads prunable channels, with its moments."""

    name: str
    moments: LayerMoments
    channels: Tensor
    """(c,): the channel id of each input channel, over all groups of the layer."""
    metric: Tensor
    """(n,)"""
    ridge: float

    @classmethod
    def of(cls, channels: ChannelMap, moments: LayerMoments, ridge: float) -> Consumer:
        """`ridge` is the setting; with fewer than five samples per unknown it is at least 0.01."""
        metric = norm_scale(channels.network, moments.name, moments.out_channels).to(moments.weight.device)
        ridge = max(ridge, 1e-2) if moments.moments.per_unknown < 5 else ridge
        return cls(moments.name, moments, channels.inputs[moments.name], metric, ridge)

    def problems(self) -> list[Problem]:
        """One per group of the layer; what is removed and what is left is the same in each."""
        one = self.moments
        groups = one.groups
        gram, cross, spread = (each.reshape(groups, *each.shape[-2:]) for each in one.centred())
        variance = spread.diagonal(dim1=1, dim2=2)
        metric = self.metric.reshape(groups, -1)
        columns = self.channels.repeat_interleave(one.taps).reshape(groups, -1)
        weight = one.weight.reshape(groups, -1, one.weight.shape[1])
        total = float((variance * metric.square()).sum())
        return [Problem(gram[g], cross[g], weight[g], metric[g], total, columns[g], self.ridge) for g in range(groups)]


def norm_scale(network: ReconstructedNetwork, layer: str, count: int) -> Tensor:
    """(n,): |gamma| / sigma of the batch norm after a layer, else ones: the metric that makes errors of layers comparable."""
    name = following_norm(network, layer)
    if name is None:
        return torch.ones(count, dtype=torch.float64)
    scale = norm_gain(network, name).abs()
    return scale if bool((scale > 0).any()) else torch.ones_like(scale)


def inverse_spd(matrix: Tensor, damping: float) -> Tensor:
    """(M + damping I)^-1 of a positive semidefinite M; damping grows a hundredfold until the factorisation succeeds."""
    return torch.cholesky_inverse(factor(matrix, damping))


def factor(matrix: Tensor, damping: float) -> Tensor:
    """The lower Cholesky factor of M + damping I, with damping grown as far as it takes."""
    for _ in range(8):
        damped = matrix.clone()
        damped.diagonal().add_(damping)
        lower: Tensor
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            return lower
        damping *= 100
    raise ArithmeticError("a moment matrix is not positive semidefinite: it holds values that are not finite")


@contextmanager
def threads_for(size: int) -> Iterator[None]:
    """One thread inside for matrices of less than 4000 rows: on busy cores threads wait for each other ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if size >= 4000 else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
