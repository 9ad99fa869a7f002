"""Declares the baseline tuners. Free of torch and numpy."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from amc_plugins.plugin import Settings, TunerSpec, hookimpl

__all__ = ["RandomSettings"]


class RandomSettings(Settings):
    """Settings of `random`."""

    from_allocations: bool = Field(True, description="score the plan's own allocations first")


@hookimpl
def amc_tuners() -> Iterator[TunerSpec]:
    yield TunerSpec(
        name="random",
        summary="random candidates within the budget",
        api=(1, 0),
        target="amc_baselines._random:RandomTuner",
        settings=RandomSettings,
    )
