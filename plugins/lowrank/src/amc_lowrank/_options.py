"""What every scheme speaks in: the moments it fits to, the options it offers, and the fitted layer they are cut from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc_lowrank._layers import LayerInfo
from amc_plugins.compression import LayerMoments, Moments

__all__ = ["Fitted", "Option", "Scheme", "Statistics", "balanced", "rank_grid", "symmetric"]


@dataclass
class Statistics:
    """Centred moments of a layer: x its patches, y the responses to fit. See `amc_plugins.compression.Moments`."""

    gram: Tensor
    """G (m, m)."""
    cross: Tensor
    """C (m, n)."""
    output_gram: Tensor
    """Q (n, n)."""
    mean_x: Tensor
    mean_y: Tensor
    per_unknown: float
    weight: Tensor | None = None
    """W when y = W x exactly (input and response of one network): then no system has to be solved for it."""

    @classmethod
    def of(cls, moments: Moments | LayerMoments) -> Statistics:
        if isinstance(moments, LayerMoments):
            return cls(*moments.centred(), moments.mean_x, moments.mean_y, moments.moments.per_unknown, moments.weight)
        return cls(moments.gram, moments.cross, moments.output_gram, moments.mean_x, moments.mean_y, moments.per_unknown)


@dataclass(frozen=True)
class Option:
    """One way to decompose one layer: what it costs, and its relative response error on the calibration data."""

    scheme: str
    ranks: tuple[int, ...]
    macs: int
    error: float

    @property
    def words(self) -> str:
        return f"{self.scheme} rank {' x '.join(map(str, self.ranks))}"


class Fitted(ABC):
    """A layer fitted on one network's statistics: every option is a slice of it."""

    options: Sequence[Option]

    @abstractmethod
    def trimmed(self, used: set[Option]) -> Fitted:
        """Without what only the other options need."""

    @abstractmethod
    def chain(self, info: LayerInfo, option: Option) -> list[nn.Module]:
        """The layers that stand for the original one."""


class Scheme(ABC):
    """One way to factor a layer."""

    name: str

    @abstractmethod
    def applies(self, info: LayerInfo) -> bool: ...

    @abstractmethod
    def fit(self, info: LayerInfo, statistics: Statistics) -> Fitted:
        """All options of a layer."""

    @abstractmethod
    def refit(self, info: LayerInfo, fitted: Fitted, option: Option, statistics: Statistics) -> tuple[list[nn.Module], float]:
        """One option fitted to other statistics (input of the compressed network, target of the original), and its error."""


def rank_grid(most: int, count: int) -> list[int]:
    """1 to `most` in about equal steps, at most `count` ranks."""
    if most <= count:
        return list(range(1, most + 1))
    return sorted({max(1, round(most * step / count)) for step in range(1, count + 1)})


def symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.T)


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """`left @ right` with the norms of each column of `left` and its row of `right` made equal: kind to training."""
    a, b = left.norm(dim=0), right.norm(dim=1)
    scale = torch.where((a > 0) & (b > 0), (b / a.clamp_min(1e-300)).sqrt(), torch.ones_like(a))
    return left * scale, right / scale[:, None]
