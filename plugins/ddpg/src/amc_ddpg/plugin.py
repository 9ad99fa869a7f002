"""Declares the tuner `ddpg`. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from amc_plugins.plugin import Settings, TunerSpec, hookimpl

__all__ = ["DdpgSettings"]


class DdpgSettings(Settings):
    """Settings of `ddpg`. The defaults are those of He et al., ECCV 2018, and of its released code, where the search does not
    start from the plan's allocations.
    """

    reward: Literal["accuracy", "error_log_macs"] = Field(
        "accuracy",
        description="`accuracy`: the score, under the budget; `error_log_macs`: -(ceiling - score) * log(MACs), for as much as "
        "can be removed without loss",
    )
    ceiling: float = Field(1.0, description="`error_log_macs`: the score of a network without error, 1 for accuracy")
    from_allocations: bool = Field(
        True,
        description="walk the plan's own allocations first, fit the actor to the best episode and explore around it; else the "
        "warm-up is uniform random (the paper)",
    )
    warm_up: int | None = Field(
        None, ge=1, description="episodes before the agent learns; default 100 (the paper), 40 from an allocation"
    )
    sigma: float | None = Field(
        None,
        gt=0.0,
        description="standard deviation of the truncated normal noise; default 0.5 (the paper), 0.1 from an allocation",
    )
    sigma_decay: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="its factor per episode after the warm-up; default 0.95 (the paper), 0.99 from an allocation",
    )
    hidden: int = Field(300, ge=1, description="width of the two hidden layers of actor and critic")
    actor_rate: float = Field(1e-4, gt=0.0, description="learning rate of the actor (Adam)")
    critic_rate: float = Field(1e-3, gt=0.0, description="learning rate of the critic (Adam)")
    tau: float = Field(0.01, gt=0.0, le=1.0, description="step of the target networks towards the trained ones")
    discount: float = Field(1.0, ge=0.0, le=1.0, description="of the value of the next layer's state")
    batch: int = Field(64, ge=1, description="transitions of one update")
    replay: int = Field(2000, ge=1, description="transitions that are remembered, the latest")
    updates: int | None = Field(None, ge=0, description="updates after an episode; default: one per variable")
    baseline_rate: float = Field(0.5, gt=0.0, le=1.0, description="step of the moving average that is taken off the rewards")
    fit: Literal["clip", "raise", "scale"] | None = Field(
        None,
        description="how a walk fits the budget: `clip` lowers actions (Algorithm 1 of the paper), `raise` also raises those "
        "that would leave MACs unused even with all later layers whole, `scale` scales the finished walk; default `raise`, "
        "`scale` from an allocation; with `error_log_macs` always `clip`",
    )
    explored: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        description="the probability that an action gets noise; default 1 (the paper), 0.3 from an allocation",
    )
    around_best: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="the probability that an episode explores around the best one so far, not around the policy; default 0 "
        "(the paper), 0.5 from an allocation",
    )
    scale_rewards: bool | None = Field(
        None,
        description="divide rewards by their standard deviation in the memory; default false (the paper), true from an "
        "allocation",
    )


@hookimpl
def amc_tuners() -> Iterator[TunerSpec]:
    yield TunerSpec(
        name="ddpg",
        summary="an actor-critic agent walks the layers and learns their ratios (AMC, ECCV 2018)",
        api=(1, 0),
        target="amc_ddpg._ddpg:DdpgTuner",
        settings=DdpgSettings,
    )
