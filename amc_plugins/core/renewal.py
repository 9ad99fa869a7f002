"""The last step of a compression: statistics put right, if that brings the outputs nearer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from amc_plugins.core.macs import affordable_samples
from amc_plugins.core.norms import reestimated_norms
from amc_plugins.core.objectives import Divergence
from amc_plugins.core.sequential import match_responses

if TYPE_CHECKING:
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.stepping import Target

__all__ = ["renewed"]

_SAMPLES, _FEWEST_SAMPLES = 1024, 64
"""Means, variances and comparisons need no more; networks with maps of many positions do with fewer."""
_RUNS = 7
"""Forwards of a network: of the original, of the three versions, of both side by side for the matching, for the norms."""
_WORK = 5e12
"""MACs that all of it may take."""

_log = logging.getLogger(__name__)


def renewed(
    original: ReconstructedNetwork, fitted: ReconstructedNetwork, calibration: Calibration, targets: Mapping[str, str | Target]
) -> ReconstructedNetwork:
    """`fitted`, or a version of it with responses' means and variances matched or batch norm statistics re-estimated,
    whichever has outputs nearest to the original's.

    A least-squares fit predicts with less variance than its target has; either version undoes that.

    Args:
        targets: per layer of `fitted`, as for `match_responses`.
    """
    samples = affordable_samples(original, _RUNS, work=_WORK, fewest=_FEWEST_SAMPLES, most=_SAMPLES)
    calibration = calibration.subset(samples)
    divergence = Divergence(original, calibration)
    best, least = fitted, divergence(fitted)
    before = least
    matched = fitted.clone()
    match_responses(original, matched, calibration, targets)
    for trial in (matched, reestimated_norms(fitted, calibration)):
        if trial is not None and (measured := divergence(trial)) < least:
            best, least = trial, measured
    _log.info("renewing statistics: divergence of the outputs %.3g -> %.3g", before, least)
    return best
