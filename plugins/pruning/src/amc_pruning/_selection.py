"""Which channels of a group to keep: the rules that turn moments into one nested order per group."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lars_path_gram
from torch import Tensor

from amc_pruning._elimination import eliminate
from amc_pruning._problems import Consumer, Problem

__all__ = ["keep_order", "lasso_gram", "lasso_order", "shares"]


def keep_order(
    rule: str, consumers: Sequence[Consumer], ids: Tensor, *, keep: int, seed: int, name: str, alpha: float
) -> Tensor:
    """Channels from the most to the least worth keeping: the first k of them are the choice for every count k.

    Args:
        rule: `block_backward`, `scalar_backward`, `lasso`, `magnitude` or `random`.
        consumers: all layers that read the channels; each counts relative to the spread of its own responses.
        ids: channel ids, ascending.
        keep: the smallest count that will be asked for.
        seed, name: of `random`.
        alpha: where `lasso` ends its path.

    Returns: (len(ids),) channel ids.
    """
    problems = [problem for consumer in consumers for problem in consumer.problems()]
    order: list[int]
    if rule == "block_backward":
        order = _from_removed(eliminate(list(zip(problems, shares(problems), strict=True)), ids, keep), len(ids))
    elif rule == "scalar_backward":
        order = _from_removed(eliminate([(_scalar_problem(problems, ids), 1.0)], torch.arange(len(ids)), keep), len(ids))
    elif rule == "lasso":
        gram, target = lasso_gram(problems, ids)
        order = lasso_order(gram, target, outputs=sum(len(problem.metric) for problem in problems), alpha_min=alpha)
    elif rule == "magnitude":
        score = torch.zeros(len(ids), dtype=torch.float64)
        for problem in problems:
            weight = problem.weight.square().sum(0)
            score += _summed((weight / weight.sum().clamp_min(1e-300)).cpu(), problem.columns, ids)
        order = torch.argsort(-score, stable=True).tolist()
    else:
        generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + zlib.crc32(name.encode())) % 2**63)
        order = torch.randperm(len(ids), generator=generator).tolist()
    return ids[torch.tensor(order, dtype=torch.long)]


def shares(problems: Sequence[Problem]) -> list[float]:
    """The weights that make the problems' errors relative to their spreads; 1 when there is only one spread."""
    totals = [max(problem.total, 1e-300) for problem in problems]
    return [min(totals) / total for total in totals]


def _from_removed(gone: list[int], count: int) -> list[int]:
    left = set(range(count)) - set(gone)
    return [*sorted(left), *reversed(gone)]


def _summed(values: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
    """Sums of `values` per channel in `ids`."""
    place = torch.searchsorted(ids, labels).clamp(max=len(ids) - 1)
    mine = ids[place] == labels
    return torch.zeros(len(ids), dtype=torch.float64).index_add_(0, place[mine], values[mine].double())


def _scalar_problem(problems: Sequence[Problem], ids: Tensor) -> Problem:
    """One unknown per channel: a scale on its present contribution to every consumer."""
    gram, target = lasso_gram(problems, ids)
    one = torch.ones(1, dtype=torch.float64)
    weight = torch.ones(1, len(ids), dtype=torch.float64)
    return Problem(gram, target[:, None], weight, one, float(gram.sum()), torch.arange(len(ids)), 1e-9)


def lasso_gram(problems: Sequence[Problem], ids: Tensor) -> tuple[Tensor, Tensor]:
    """A (c, c) and b (c,) of `min 1/2 E|y - sum_i beta_i Z_i|^2`, Z_i = W_i x_i the contribution of channel i.

    He, Zhang and Sun (ICCV 2017), equation 2 with W fixed: `A_ij = E[Z_i . Z_j]`, the sum over the (i, j) block of G o (W^T W).
    The target is what the channels contribute together: `b = A 1`. Several problems are added up, each relative to its spread.
    """
    gram = torch.zeros(len(ids), len(ids), dtype=torch.float64)
    for problem, share in zip(problems, shares(problems), strict=True):
        columns = problem.columns_of(ids).to(problem.gram.device)
        flat, present = columns.flatten().clamp_min(0), columns.flatten() >= 0
        weight = problem.weight[:, flat] * problem.metric[:, None] * present
        product = problem.gram[flat][:, flat] * (weight.T @ weight)
        a, q = columns.shape
        gram += share * product.reshape(a, q, a, q).sum((1, 3)).cpu()
    gram = 0.5 * (gram + gram.T)
    return gram, gram.sum(1)


def lasso_order(gram: Tensor, target: Tensor, *, outputs: int, alpha_min: float = 0.0) -> list[int]:
    """Channels in the order in which the LASSO path activates them, from its largest penalty down to `alpha_min`.

    Channels that are never active follow by their correlation with what is left, dead ones come last. Penalties are those of
    `lars_path` on the samples themselves (N x outputs rows), so that a published `alpha` keeps its meaning.
    """
    diagonal = gram.diagonal()
    alive = (diagonal > 1e-12 * diagonal.max()).nonzero().flatten()
    dead = (diagonal <= 1e-12 * diagonal.max()).nonzero().flatten()
    inner, right = gram[alive][:, alive].numpy(), target[alive].numpy()
    with warnings.catch_warnings():
        # Near the end of the path steps become smaller than its tolerance; what is left there decides nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, _, path = lars_path_gram(
            Xy=right.copy(), Gram=inner.copy(), n_samples=outputs, method="lasso", max_iter=20 * len(alive), alpha_min=alpha_min
        )
    active = path != 0
    first = np.where(active.any(1), active.argmax(1), path.shape[1])
    rest = np.abs(right - inner @ path[:, -1])
    order = np.lexsort((-rest, first))
    return [*alive[torch.from_numpy(order)].tolist(), *dead.tolist()]
