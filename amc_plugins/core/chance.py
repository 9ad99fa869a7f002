"""Whether a candidate is better than a baseline, or was lucky: paired differences of the samples' scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from amc_plugins.compression import Candidate

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LEAD_ERROR", "SURE", "lead_error", "within_chance"]

LEAD_ERROR = "lead_error"
"""Of a confirmed candidate's objectives: the standard error of its lead over the better baseline."""
SURE = 2.0
"""Standard errors by which a candidate must lead a baseline. By chance alone one in forty does."""


def lead_error(samples: Tensor | None, others: Tensor | None) -> dict[str, float]:
    """The standard error of the mean difference between two candidates' scores of the same samples, (N,) each.

    By its name among objectives; empty where there are no scores of samples.
    """
    if samples is None or others is None or len(samples) < 2:
        return {}
    return {LEAD_ERROR: float((samples - others).std()) / len(samples) ** 0.5}


def within_chance(scored: Mapping[Candidate, Mapping[str, float]], baseline: Candidate) -> set[Candidate]:
    """The candidates whose lead over a baseline is at most `SURE` standard errors.

    Args:
        scored: objectives on unseen data, those of the baseline among them.
        baseline: the one that the errors of the leads belong to.
    """
    least = scored[baseline]["score"]
    return {
        candidate
        for candidate, objectives in scored.items()
        if LEAD_ERROR in objectives and 0.0 < objectives["score"] - least <= SURE * objectives[LEAD_ERROR]
    }
