"""Exchanging kept channels for dropped ones: a polish of what a selection rule kept."""

from __future__ import annotations

import torch
from torch import Tensor

from amc_pruning._problems import Problem, factor, threads_for

__all__ = ["Exchange", "exchanged"]

_LEAST = 1e-10
"""Damping at least, relative to the mean of G's diagonal: what a dropped channel adds may depend on the kept ones."""
_WORTH = 1e-6
"""Of the errors' spread: what an exchange has to gain, well above the rounding of the sums."""


class Exchange:
    """One problem with the channels kept so far, swept: the cost of dropping any of them, the gain of taking any other up.

    With S the columns that are kept, G swept on S holds `P = G_SS^-1`, `P G_SD` and the Schur complement of the rest; C swept
    along holds the weights `B = P C_S` and the residual `C_D - G_DS B`. Both rules are exact, all other weights refitted:
    dropping g costs `tr(B_g^T P_gg^-1 B_g)`, taking g up gains the same of its residual and its block of the complement.
    OSSCAR (Meng et al., ICML 2024) searches so for the input channels of convolutions.

    Args:
        problem: the consumer's moments.
        ids: the channels to choose from, ascending. All other columns are kept.
        kept: (channels,) bool, the choice to begin with.
        share: the weight of this problem's error in the costs.
    """

    def __init__(self, problem: Problem, ids: Tensor, kept: Tensor, share: float) -> None:
        columns = problem.columns_of(ids)
        self.count, self.width = columns.shape
        self.share = share
        order = torch.cat([columns.flatten(), problem.others(ids)]).to(problem.gram.device)
        present = order >= 0
        # channels with fewer columns are padded with columns that do nothing
        gram = problem.gram[order][:, order] * present[:, None] * present[None, :]
        gram.diagonal()[~present] = 1.0
        lower = factor(gram, problem.damping() + _LEAST * float(problem.gram.diagonal().mean()))
        gram = lower @ lower.T
        cross = problem.scaled_cross[order] * present[:, None]
        inside = torch.ones(len(order), dtype=torch.bool, device=gram.device)
        inside[: self.count * self.width] = kept.to(gram.device).repeat_interleave(self.width)
        s, d = inside.nonzero().flatten(), (~inside).nonzero().flatten()
        inverse, between = torch.cholesky_inverse(torch.linalg.cholesky(gram[s][:, s])), gram[s][:, d]
        mapped = inverse @ between
        self.swept = gram
        self.rest = cross
        self.swept[d[:, None], d] -= between.T @ mapped
        self.swept[s[:, None], s] = inverse
        self.swept[s[:, None], d] = mapped
        self.swept[d[:, None], s] = -mapped.T
        self.rest[s] = inverse @ cross[s]
        self.rest[d] -= between.T @ self.rest[s]

    def _blocks(self) -> tuple[Tensor, Tensor]:
        """The diagonal blocks (a, q, q) and the rows (a, q, n)."""
        a, q = self.count, self.width
        inner = self.swept[: a * q, : a * q].reshape(a, q, a, q).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        return inner, self.rest[: a * q].reshape(a, q, -1)

    def costs(self) -> Tensor:
        """(channels,): what dropping costs, for those kept; what taking up gains, for the others."""
        inner, rows = self._blocks()
        return self.share * _energies(inner, rows)

    def gains_without(self, channel: int) -> Tensor:
        """(channels,): what taking up each of those that are not kept would gain after `channel` was dropped."""
        a, q = self.count, self.width
        inner, rows = self._blocks()
        mine = slice(channel * q, (channel + 1) * q)
        # the columns of `channel` come back into the Schur complement and the residual
        column = self.swept[: a * q, mine].reshape(a, q, q)
        scaled = column @ torch.linalg.inv(self.swept[mine, mine])
        return self.share * _energies(inner + scaled @ column.transpose(1, 2), rows - scaled @ self.rest[mine])

    def turn(self, channel: int) -> None:
        """Drop a channel that is kept, or take it up: its columns swept."""
        q = self.width
        mine = slice(channel * q, (channel + 1) * q)
        pivot = torch.linalg.inv(self.swept[mine, mine])
        row, column, own = self.swept[mine].clone(), self.swept[:, mine].clone(), self.rest[mine].clone()
        scaled = column @ pivot
        self.swept -= scaled @ row
        self.rest -= scaled @ own
        self.swept[mine] = pivot @ row
        self.swept[:, mine] = -scaled
        self.swept[mine, mine] = pivot
        self.rest[mine] = pivot @ own


def _energies(inner: Tensor, rows: Tensor) -> Tensor:
    product = rows @ rows.transpose(1, 2)
    energies: Tensor = torch.linalg.solve(inner, product).diagonal(dim1=1, dim2=2).sum(1)
    return energies.clamp_min(0.0).cpu()


def exchanged(problems: list[tuple[Problem, float]], ids: Tensor, kept: Tensor) -> Tensor:
    """The choice after exchanging one kept channel for one dropped at a time, as long as any exchange lowers the summed error.

    For the kept channels from the cheapest on, the best one to take up instead is looked for; the first pair that gains is
    exchanged, and so on from there until no pair gains. The number of channels stays.

    Args:
        problems: every problem that reads the channels, with the weight of its error.
        ids: channel ids, ascending.
        kept: (channels,) bool.
    """
    kept = kept.clone()
    states = []
    for problem, share in problems:
        with threads_for(len(problem.gram)):
            states.append(Exchange(problem, ids, kept, share))
    least = _WORTH * sum(problem.total * share for problem, share in problems)
    with threads_for(0):
        while True:
            costs = sum(state.costs() for state in states)
            assert isinstance(costs, Tensor)
            found = _pair(states, kept, costs, least)
            if found is None:
                return kept
            for channel in found:
                kept[channel] = ~kept[channel]
                for state in states:
                    state.turn(channel)


def _pair(states: list[Exchange], kept: Tensor, costs: Tensor, least: float) -> tuple[int, int] | None:
    for channel in sorted(kept.nonzero().flatten().tolist(), key=lambda one: float(costs[one])):
        gains = sum(state.gains_without(channel) for state in states)
        assert isinstance(gains, Tensor)
        gains[kept] = -torch.inf
        best = int(gains.argmax())
        if float(gains[best]) > float(costs[channel]) + least:
            return channel, best
    return None
