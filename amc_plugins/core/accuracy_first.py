"""Accuracy first: the most that can be removed with the accuracy at or above a floor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from amc_plugins.core.errors import BudgetError

if TYPE_CHECKING:
    from amc_plugins.compression import Candidate, CompressionResult, Plan
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["most_above"]

_RESOLUTION = 0.005
"""Of the network's MACs: the bisection ends when so much or less is left between what passed and what did not."""

_log = logging.getLogger(__name__)


def most_above(
    plan: Plan,
    floor: float,
    evaluate: Callable[[ReconstructedNetwork], float],
    candidate_at: Callable[[float], Candidate],
    *,
    refit: bool = True,
) -> CompressionResult:
    """The largest compression found whose network `evaluate` scores at `floor` or above; never one below it.

    Bisects between nothing and the most; each network that is scored is a final one. Where scores do not fall steadily, a
    larger compression than the one found may pass as well.

    Args:
        evaluate: `network -> score`, higher is better.
        candidate_at: the candidate for a share in (0, 1] of the most that may be removed.
        refit: as for `Plan.apply`.

    Raises:
        BudgetError: the network itself is below the floor.
    """
    best = plan.apply(plan.full)
    original = evaluate(best.network)
    if original < floor:
        raise BudgetError(
            f"the accuracy is to stay at or above {floor:g}, and that of the network itself is {original:g}",
            hint="lower `accuracy_threshold`; it is in the unit of `evaluate`",
        )
    if not plan.variables:
        return best
    low, high, share = 0.0, 1.0, 1.0
    most = plan.removed(candidate_at(1.0))
    tried: set[Candidate] = set()
    while high > low and (not tried or (high - low) * most > _RESOLUTION):
        candidate = candidate_at(share)
        if candidate in tried:  # nothing lies between what passed and what did not
            break
        tried.add(candidate)
        result = plan.apply(candidate, refit=refit)
        score = evaluate(result.network)
        _log.info("%.1f %% of the MACs removed: %g, the floor is %g", 100 * result.removed, score, floor)
        if score >= floor:
            low, best = share, result
        else:
            high = share
        share = (low + high) / 2
    return best
