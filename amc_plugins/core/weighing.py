"""What a variable's response error does to the network's outputs, measured with one variable changed at a time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from amc_plugins.core.macs import affordable_samples
from amc_plugins.core.objectives import Divergence

if TYPE_CHECKING:
    from amc_plugins.compression import Plan, Variable

__all__ = ["weighed"]

_PROBES = (0.03, 0.3)
"""Relative errors at which a variable is probed (the choices nearest to them)."""
_POWER = 0.75
"""Of the divergence in a loss, against the error: with all of it a few layers that look harmless alone are cut to the bone."""
_FLOOR = 0.05
"""Of the median: no variable's error is free, however little it shows alone."""
_LEAST = 1e-9
_SAMPLES, _FEWEST_SAMPLES = 256, 8
_WORK = 5e12
"""MACs that all probes together may take: about two minutes of one core."""


def weighed(plan: Plan, *, samples: int | None = None) -> list[Variable]:
    """The plan's variables with `losses`: `divergence^0.75 error^0.25` per choice.

    The divergence of the outputs is measured on networks in which only that variable is changed, at two choices, and follows a
    power of the error between and beyond them. A variable whose divergence per error is below 5 % of the median has that.

    Args:
        plan: with error curves; `assemble` is called twice per variable.
        samples: of the plan's calibration data, to compare outputs on; by default 256, fewer (at least 8) for networks so
            large that the probes would take longer than the statistics.
    """
    if samples is None:
        runs = len(_PROBES) * len(plan.variables)
        samples = affordable_samples(plan.network, runs, work=_WORK, fewest=_FEWEST_SAMPLES, most=_SAMPLES)
    divergence = Divergence(plan.network, plan.calibration.subset(samples))
    probes: dict[str, list[tuple[float, float]]] = {}
    for variable in plan.variables:
        measured = [
            (variable.error(choice), divergence(plan.assemble({**plan.full, variable.name: choice})))
            for choice in _probed(variable)
        ]
        probes[variable.name] = [(error, max(shift, _LEAST * error)) for error, shift in sorted(measured)]
    slopes = [shift / error for points in probes.values() for error, shift in points[:1]]
    if not slopes:
        return list(plan.variables)
    floor = _FLOOR * statistics.median(slopes)
    return [replace(one, losses=_losses(one, probes[one.name], floor)) for one in plan.variables]


def _probed(variable: Variable) -> list[int]:
    """The choices whose errors are nearest to the probes', in their logarithms."""
    usable = [choice for choice in variable.choices if variable.error(choice) > _LEAST]
    if not usable:
        return []
    return sorted({min(usable, key=lambda choice: abs(math.log(variable.error(choice) / probe))) for probe in _PROBES})


def _losses(variable: Variable, points: Sequence[tuple[float, float]], floor: float) -> tuple[float, ...]:
    found = []
    for error in variable.errors or ():
        shift = max(_between(error, points), floor * error) if error > 0 else 0.0
        found.append(shift**_POWER * error ** (1 - _POWER))
    return tuple(found)


def _between(error: float, points: Sequence[tuple[float, float]]) -> float:
    """The divergence at an error: the power law through two points, in proportion to the error below the first."""
    if not points:
        return 0.0
    first, last = points[0], points[-1]
    if error <= first[0] or first[0] == last[0]:
        return first[1] * error / first[0]
    exponent = math.log(last[1] / first[1]) / math.log(last[0] / first[0])
    return float(first[1] * (error / first[0]) ** min(max(exponent, 0.0), 3.0))
