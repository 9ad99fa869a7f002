"""Declares the tuner `ga`. Free of torch, numpy and DEAP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, field_validator

from amc_plugins.plugin import Settings, TunerSpec, hookimpl

__all__ = ["GeneticSettings"]


class GeneticSettings(Settings):
    """Settings of `ga`."""

    population: int = Field(12, ge=4, description="candidates that survive a generation (mu), and children of one (lambda)")
    crossover: float = Field(0.9, ge=0.0, le=1.0, description="probability that a pair of children is crossed")
    crossover_eta: float = Field(
        15.0, gt=0.0, description="crowding degree of crossover: higher keeps children nearer to parents"
    )
    mutation: float | None = Field(
        None, gt=0.0, le=1.0, description="probability that a gene mutates; default 0.2, and at least 1 / number of variables"
    )
    mutation_eta: float = Field(8.0, gt=0.0, description="crowding degree of the mutation: higher makes smaller steps")
    from_allocations: bool = Field(True, description="begin with the plan's own allocations and variations of them")
    objectives: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("score",),
        description="`score` alone, or with costs to minimise (`macs`, `parameters`, `activations`, `latency`, or what the "
        "evaluation gives): NSGA-II",
    )

    @field_validator("objectives")
    @classmethod
    def _score_first(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if not objectives or objectives[0] != "score" or len(set(objectives)) != len(objectives):
            raise ValueError("`objectives` begins with `score` and names nothing twice")
        return objectives


@hookimpl
def amc_tuners() -> Iterator[TunerSpec]:
    yield TunerSpec(
        name="ga",
        summary="genetic search within the budget, or for the front of score against cost (NSGA-II)",
        api=(1, 0),
        target="amc_ga._genetic:GeneticTuner",
        settings=GeneticSettings,
    )
