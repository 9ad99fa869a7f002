"""k x k as 1 x 1, k x k on fewer channels, and 1 x 1: Tucker-2, fitted to the responses on data.

The shape is that of Kim et al., "Compression of deep convolutional neural networks for fast and low power mobile applications",
ICLR 2016, section 3.1; the fit is `_split`'s over the taps of a patch: V projects the input channels, H of rank d2 is the core
with its output factor. Without the last factor (d2 = n) the chain is 1 x 1 and k x k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from amc_lowrank._layers import LayerInfo
from amc_lowrank._options import Fitted, Option, Scheme, Statistics, balanced, rank_grid
from amc_lowrank._split import SplitProblem, cut

__all__ = ["TuckerFit", "TuckerScheme"]

_CURVE_ENTRIES = 1152
"""Layers with longer patches keep the starting V in their curves; the final refit alternates for every layer."""


@dataclass
class TuckerFit(Fitted):
    """Per number of projected inputs d1: V (c, d1), the core (taps, d1, n) and the outputs' directions (n, n)."""

    factors: dict[int, tuple[Tensor, Tensor, Tensor]]
    mean_x: Tensor
    mean_y: Tensor
    options: list[Option]

    def trimmed(self, used: set[Option]) -> TuckerFit:
        inputs = {option.ranks[0] for option in used}
        kept = {d1: factors for d1, factors in self.factors.items() if d1 in inputs}
        return replace(self, factors=kept, options=[option for option in self.options if option in used])

    def chain(self, info: LayerInfo, option: Option) -> list[nn.Module]:
        d1, d2 = option.ranks
        v, core, directions = self.factors[d1]
        core, directions = core[:, :, :d2].double(), directions[:, :d2].double()
        return tucker_chain(info, v.double(), core, directions, self.mean_x, self.mean_y)


def tucker_chain(
    info: LayerInfo, v: Tensor, core: Tensor, directions: Tensor, mean_x: Tensor, mean_y: Tensor
) -> list[nn.Module]:
    """1 x 1 (d1, c), k x k (d2, d1) and 1 x 1 (n, d2); the last two in one when d2 = n. `y = directions core^T V^T x`."""
    assert info.kernel is not None
    d1, d2 = core.shape[1:]
    taps = cut(mean_x[None], info.kernel, "taps")[:, 0]
    response = directions @ torch.einsum("wde,pd,wp->e", core, v, taps)
    bias = mean_y - response
    if d2 == info.n:
        middle, last = (core @ directions.T).permute(2, 1, 0).reshape(info.n, -1), None
    else:
        last, middle = balanced(directions, core.permute(2, 1, 0).reshape(d2, -1))
    rows, first = balanced(middle.reshape(-1, d1, info.taps).transpose(1, 2).reshape(-1, d1), v.T)
    middle = rows.reshape(-1, info.taps, d1).transpose(1, 2).reshape(-1, d1, *info.kernel)
    chain = [info.pointwise(first, None), info.part(middle, bias if last is None else None)]
    return chain if last is None else [*chain, info.pointwise(last, bias)]


class TuckerScheme(Scheme):
    """1 x 1, k x k, 1 x 1."""

    name = "tucker2"

    def __init__(self, inputs: int = 12, outputs: int = 8, rounds: int = 2, curve_rounds: int = 1) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.rounds = rounds
        self.curve_rounds = curve_rounds

    def applies(self, info: LayerInfo) -> bool:
        return info.taps > 1

    def fit(self, info: LayerInfo, statistics: Statistics) -> TuckerFit:
        problem = SplitProblem(info, statistics, "taps")
        start = problem.start()
        factors: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        options: list[Option] = []
        ranks = [d1 for d1 in rank_grid(info.channels, self.inputs) if self._macs(info, d1, 1) < info.macs]
        for d1, (v, h, cross) in zip(ranks, self._curve(info, problem, start, ranks), strict=True):
            directions, errors = problem.outputs(h, cross)
            made = v, h @ directions, info.metric_inverse @ directions
            factors[d1] = (made[0].to(info.dtype), made[1].to(info.dtype), made[2].to(info.dtype))
            for d2 in rank_grid(info.n, self.outputs):
                if self._macs(info, d1, d2) < info.macs:
                    options.append(Option(self.name, (d1, d2), self._macs(info, d1, d2), float(errors[d2])))
        return TuckerFit(factors, statistics.mean_x, statistics.mean_y, options)

    def _curve(
        self, info: LayerInfo, problem: SplitProblem, start: Tensor, ranks: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """V, H and the cross moments of the projected taps for every d1."""
        if self.curve_rounds and info.m <= _CURVE_ENTRIES:
            for d1 in ranks:
                v, h, _ = problem.alternated(start[:, :d1], self.curve_rounds if d1 < info.channels else 0)
                yield v, h, v.T @ problem.cross
        else:
            for d1, (h, cross) in zip(ranks, problem.nested(start[:, : max(ranks, default=0)], ranks), strict=True):
                yield start[:, :d1], h, cross

    def refit(self, info: LayerInfo, fitted: Fitted, option: Option, statistics: Statistics) -> tuple[list[nn.Module], float]:
        assert isinstance(fitted, TuckerFit)
        d1, d2 = option.ranks
        problem = SplitProblem(info, statistics, "taps")
        v, _, _ = problem.alternated(fitted.factors[d1][0].double(), self.rounds if d1 < info.channels else 0, d2)
        gram, cross = problem.features(v)
        h = problem.solve_h(gram, cross)
        directions, errors = problem.outputs(h, cross)
        top = directions[:, :d2]
        chain = tucker_chain(info, v, h @ top, info.metric_inverse @ top, statistics.mean_x, statistics.mean_y)
        return chain, float(errors[d2])

    def _macs(self, info: LayerInfo, d1: int, d2: int) -> int:
        ins, outs = info.in_map[0] * info.in_map[1], info.out_map[0] * info.out_map[1]
        last = 0 if d2 == info.n else d2 * info.n
        return info.channels * d1 * ins + (info.taps * d1 * d2 + last) * outs
