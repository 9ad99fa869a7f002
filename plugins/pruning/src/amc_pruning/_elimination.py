"""Backward elimination of channels: the exact cost of removing each, and the update after removing one."""

from __future__ import annotations

import torch
from torch import Tensor

from amc_pruning._problems import Problem, inverse_spd, threads_for

__all__ = ["Elimination", "eliminate"]

_PENDING = 256
"""Columns of updates held back from the inverse and the weights, so that these are changed by large products, not thin ones."""


class Elimination:
    """One problem during backward elimination, the structured Optimal Brain Surgeon.

    With P = G^-1 and B = P C, removing channel g raises the least-squares error, all other weights refitted, by exactly
    `tr(B_g^T P_gg^-1 B_g)`; then `B -= P_:g P_gg^-1 B_g` and `P -= P_:g P_gg^-1 P_g:` (Frantar, Singh and Alistarh, NeurIPS
    2022, for blocks of weights; Meng et al., OSSCAR, ICML 2024, for the input channels of convolutions). The costs need the
    diagonal blocks of P and of B B^T only, which are kept up to date at every step.

    Args:
        problem: the consumer's moments.
        ids: the channels that may go, ascending. All other columns stay.
        share: the weight of this problem's error in the costs.
    """

    def __init__(self, problem: Problem, ids: Tensor, share: float) -> None:
        columns = problem.columns_of(ids)
        self.count, self.width = columns.shape
        order = torch.cat([columns.flatten(), problem.others(ids)]).to(problem.gram.device)
        present = order >= 0
        gram = problem.gram[order][:, order]
        cross = problem.scaled_cross[order]
        if not bool(present.all()):  # channels with fewer columns are padded with columns that do nothing
            gram = gram * present[:, None] * present[None, :]
            gram.diagonal()[~present] = 1.0
            cross = cross * present[:, None]
        self.inverse = inverse_spd(gram, problem.damping())
        self.weights = self.inverse @ cross
        self.share = share
        self.places = torch.arange(self.count)
        """The channel of each block row that is still stored."""
        self._refreshed()

    def _refreshed(self) -> None:
        """Diagonal blocks (a, q, q) of P and of B B^T, and room for updates that are held back: P - L R^T, B - L M."""
        a, q = len(self.places), self.width
        inner = self.inverse[: a * q, : a * q].reshape(a, q, a, q)
        self.blocks = inner.diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()
        rows = self.weights[: a * q].reshape(a, q, -1)
        self.energies = rows @ rows.transpose(1, 2)
        room = min(_PENDING + q, a * q)
        self._left = self.inverse.new_empty(len(self.inverse), room)
        self._right = torch.empty_like(self._left)
        self._made = self.weights.new_empty(room, self.weights.shape[1])
        self._pending = 0

    def costs(self) -> Tensor:
        """(channels,): the increase of the error, times the share, for each channel still present; 0 for those gone."""
        traces = torch.linalg.solve(self.blocks, self.energies).diagonal(dim1=1, dim2=2).sum(1)
        full = torch.zeros(self.count, dtype=torch.float64, device=traces.device)
        full[self.places.to(traces.device)] = traces.clamp_min(0.0) * self.share
        return full

    def remove(self, channel: int) -> None:
        """Take a channel out and refit the others."""
        place = int((self.places == channel).nonzero())
        a, q, held = len(self.places), self.width, self._pending
        mine = slice(place * q, (place + 1) * q)
        left, right, made = self._left[:, :held], self._right[:, :held], self._made[:held]
        column = self.inverse[:, mine] - left @ right[mine].T
        own = self.weights[mine] - left[mine] @ made
        scaled = torch.linalg.solve(self.blocks[place], column.T).T
        inner = (self.weights @ own.T - left @ (made @ own.T))[: a * q].reshape(a, q, q)
        steps = scaled[: a * q].reshape(a, q, q)
        change = steps @ inner.transpose(1, 2)
        self.energies -= change + change.transpose(1, 2) - steps @ inner[place] @ steps.transpose(1, 2)
        self.blocks -= steps @ column[: a * q].reshape(a, q, q).transpose(1, 2)
        self.energies[place] = 0.0
        self.blocks[place] = torch.eye(q, dtype=torch.float64, device=column.device)
        self._left[:, held : held + q], self._right[:, held : held + q] = scaled, column
        self._made[held : held + q] = own
        self._pending += q

    def settle(self, alive: Tensor) -> None:
        """Bring inverse and weights up to date once enough updates wait, and drop the rows of channels that are gone."""
        if self._pending < _PENDING:
            return
        stays = alive[self.places]
        others = torch.ones(len(self.weights) - len(self.places) * self.width, dtype=torch.bool)
        rows = torch.cat([stays.repeat_interleave(self.width), others]).nonzero().flatten().to(self.inverse.device)
        left, right = self._left[rows, : self._pending], self._right[rows, : self._pending]
        self.inverse = self.inverse[rows][:, rows].addmm_(left, right.T, alpha=-1.0)
        self.weights = self.weights[rows].addmm_(left, self._made[: self._pending], alpha=-1.0)
        self.places = self.places[stays]
        self._refreshed()


def eliminate(problems: list[tuple[Problem, float]], ids: Tensor, keep: int) -> list[int]:
    """The order in which channels go, each time the one whose removal raises the summed error least, until `keep` are left.

    Args:
        problems: every problem that reads the channels, with the weight of its error.
        ids: channel ids, ascending.

    Returns: indices into `ids`.
    """
    states = []
    for problem, share in problems:
        with threads_for(len(problem.gram)):
            states.append(Elimination(problem, ids, share))
    alive = torch.ones(len(ids), dtype=torch.bool)
    order: list[int] = []
    while int(alive.sum()) > keep:
        with threads_for(0):  # the products of one step are small
            costs = torch.zeros(len(ids), dtype=torch.float64)
            for state in states:
                costs += state.costs().cpu()
            costs[~alive] = torch.inf
            channel = int(costs.argmin())
            alive[channel] = False
            order.append(channel)
            for state in states:
                state.remove(channel)
        for state in states:
            with threads_for(len(state.weights)):
                state.settle(alive)
    return order
