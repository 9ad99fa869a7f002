"""The tuner `ddpg`: episodes of an agent that walks the variables (AMC: He, Lin, Liu, Wang, Li and Han, ECCV 2018)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from amc_ddpg._agent import Agent
from amc_ddpg._walk import Walk, Walked
from amc_ddpg.plugin import DdpgSettings
from amc_plugins.plugin import SettingsError
from amc_plugins.tuning import Candidate, Space, Tuner

__all__ = ["DdpgTuner"]


class DdpgTuner(Tuner):
    """One candidate is one episode; its reward is copied to all of its transitions, and the raw actions are remembered.

    The first episodes walk the space's starts; then the actor is fitted to the better one. Later episodes are the policy's
    actions with noise from a normal distribution truncated to [0, 1], of standard deviation `sigma` up to `warm_up` and
    `sigma * sigma_decay^(episode - warm_up)` after it; without starts those up to `warm_up` are uniform random (the paper).
    After each episode past the warm-up the agent takes as many updates as there are variables. Episodes asked for at once share
    a policy.
    """

    settings: DdpgSettings

    def __init__(self, settings: DdpgSettings, space: Space, seed: int) -> None:
        super().__init__(settings, space, seed)
        self._walk = Walk(space, use_budget=settings.use_budget and settings.reward == "accuracy")
        self._agent = Agent(self._walk.width, settings, seed)
        self._random = random.Random(seed)
        starts = dict.fromkeys(space.starts) if settings.from_allocations else {}
        self._waiting: list[Walked] = [self._walk.again(self._walk.actions_of(one), use_budget=False) for one in starts]
        """Episodes to ask for before new ones."""
        self._starts = len(self._waiting)
        """Starts that are not told yet."""
        self._lead: tuple[float, list[float]] | None = None
        """Reward and actions of the best start."""
        self._warm_up = settings.warm_up or (40 if starts else 100)
        self._sigma = settings.sigma or (0.1 if starts else 0.5)
        self._decay = settings.sigma_decay or (0.99 if starts else 0.95)
        self._open: list[Walked] = []
        """Asked, not told."""
        self._told = 0

    def ask(self, n: int = 1) -> list[Candidate]:
        given = []
        for _ in range(n):
            if not self._waiting and self._starts:  # where to go from the starts is not known yet
                break
            episode = self._waiting.pop(0) if self._waiting else self._explored(self._told + len(self._open))
            self._open.append(episode)
            given.append(episode.candidate)
        return given

    def _explored(self, episode: int) -> Walked:
        if self._lead is None and episode < self._warm_up:
            return self._walk.run(lambda index, state: self._random.random())
        sigma = self._sigma * self._decay ** max(0, episode - self._warm_up)
        return self._walk.run(lambda index, state: self._noisy(self._agent.act(state), sigma))

    def _noisy(self, mean: float, sigma: float) -> float:
        """A draw from the normal distribution truncated to [0, 1], by rejection: with a mean in [0, 1] and sigma up to 0.5 at
        least .47 are accepted.
        """
        while True:
            drawn = self._random.normalvariate(mean, sigma)
            if 0.0 <= drawn <= 1.0:
                return drawn

    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        episode = next((one for one in self._open if one.candidate == candidate), None)
        if episode is None:
            return
        self._open.remove(episode)
        reward = self.merit(objectives)
        last = len(episode.actions) - 1
        for index, action in enumerate(episode.actions):
            after = episode.states[index + 1]
            self._agent.remember(episode.states[index], action, reward, after, end=index == last)
        self._told += 1
        if self._starts:
            self._start_told(episode, reward)
        if self._told > self._warm_up:
            updates = self.settings.updates if self.settings.updates is not None else len(episode.actions)
            for _ in range(updates):
                self._agent.update()

    def _start_told(self, episode: Walked, reward: float) -> None:
        self._starts -= 1
        if self._lead is None or reward > self._lead[0]:
            self._lead = reward, list(episode.actions)
        if not self._starts:
            walked = self._walk.again(self._lead[1], use_budget=False)
            self._agent.imitate(walked.states[:-1], walked.actions)

    def merit(self, objectives: Mapping[str, float]) -> float:
        """The reward (section 3.3 of the paper)."""
        score = objectives["score"]
        if self.settings.reward == "accuracy":
            return score
        if score > self.settings.ceiling:
            raise SettingsError(
                f"a score of {score:g} is above `ceiling` = {self.settings.ceiling:g}, the score of a network without error"
            )
        return -(self.settings.ceiling - score) * math.log(max(objectives["macs"], 2.0))

    def state(self) -> dict[str, Any]:
        version, numbers, spare = self._random.getstate()
        return {
            "agent": self._agent.state(),
            "random": [version, list(numbers), spare],
            "waiting": [[list(one.actions), one.used] for one in [*self._open, *self._waiting]],
            "told": self._told,
            "starts": self._starts,
            "lead": self._lead,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._agent.restore(state["agent"])
        version, numbers, spare = state["random"]
        self._random.setstate((version, tuple(numbers), spare))
        self._waiting = [self._walk.again(actions, use_budget=used) for actions, used in state["waiting"]]
        self._open = []
        self._told = int(state["told"])
        self._starts = int(state["starts"])
        self._lead = None if state["lead"] is None else (float(state["lead"][0]), list(state["lead"][1]))
