"""Declares the baseline tuners. Free of torch and numpy."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from amc_plugins.plugin import Settings, TunerSpec, hookimpl

__all__ = ["AnnealingSettings", "RandomSettings"]


class RandomSettings(Settings):
    """Settings of `random`."""

    from_allocations: bool = Field(True, description="score the plan's own allocations first")


class AnnealingSettings(Settings):
    """Settings of `annealing`."""

    from_allocations: bool = Field(
        True, description="score the plan's own allocations first, start from the better one; else from a random candidate"
    )
    probes: int = Field(10, ge=1, description="neighbours whose mean change of the score is the first temperature")
    cooling: float = Field(0.97, gt=0.0, lt=1.0, description="the temperature's factor from one candidate to the next")
    step: float = Field(
        0.25, gt=0.0, le=1.0, description="the longest way of a variable in one move, as a share of its choices"
    )


@hookimpl
def amc_tuners() -> Iterator[TunerSpec]:
    yield TunerSpec(
        name="random",
        summary="random candidates within the budget",
        api=(1, 0),
        target="amc_baselines._random:RandomTuner",
        settings=RandomSettings,
    )
    yield TunerSpec(
        name="uniform",
        summary="one candidate: the same ratio for every layer",
        api=(1, 0),
        target="amc_baselines._single:UniformTuner",
    )
    yield TunerSpec(
        name="allocation",
        summary="one candidate: the plan's exact allocation by error curves",
        api=(1, 0),
        target="amc_baselines._single:AllocationTuner",
    )
    yield TunerSpec(
        name="annealing",
        summary="simulated annealing: exchange MACs between layers, accept worse candidates less and less",
        api=(1, 0),
        target="amc_baselines._annealing:AnnealingTuner",
        settings=AnnealingSettings,
    )
