"""The tuner `ddpg`: episodes of an agent that walks the variables (AMC: He, Lin, Liu, Wang, Li and Han, ECCV 2018)."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from amc_ddpg._agent import Agent
from amc_ddpg._walk import Fit, Walk, Walked
from amc_ddpg.plugin import DdpgSettings
from amc_plugins.plugin import SettingsError
from amc_plugins.tuning import Candidate, Space, Tuner

__all__ = ["DdpgTuner"]

_TRIES = 20
"""Episodes drawn in search of a candidate that was not asked for yet."""


def _first(given: float | None, default: float) -> float:
    return default if given is None else given


class DdpgTuner(Tuner):
    """One candidate is one episode; its reward is copied to all of its transitions, and the raw actions are remembered.

    The first episodes walk the space's starts; then, and whenever an episode is better than all before, the actor is fitted to
    the best. Later episodes are the policy's actions, or with probability `around_best` those of the best episode, with noise
    from a normal distribution truncated to [0, 1] on a share `explored` of them, of standard deviation `sigma` up to `warm_up`
    and `sigma * sigma_decay^(episode - warm_up)` after it; what was asked for already is drawn again. Without starts the
    episodes up to `warm_up` are uniform random and every action gets noise (the paper).
    After each episode past the warm-up the agent takes as many updates as there are variables. Episodes asked for at once share
    a policy.
    """

    settings: DdpgSettings

    def __init__(self, settings: DdpgSettings, space: Space, seed: int) -> None:
        super().__init__(settings, space, seed)
        fit: Fit = settings.fit or ("scale" if settings.from_allocations else "raise")
        self._walk = Walk(space, fit="clip" if settings.reward == "error_log_macs" else fit)
        scaled = settings.from_allocations if settings.scale_rewards is None else settings.scale_rewards
        self._agent = Agent(self._walk.width, settings, seed, scale_rewards=scaled)
        self._random = random.Random(seed)
        self._names = [variable.name for variable in space.variables]
        starts = dict.fromkeys(space.starts) if settings.from_allocations else {}
        self._waiting: list[Walked] = [self._walk.again(self._walk.actions_of(one), fit="clip") for one in starts]
        """Episodes to ask for before new ones."""
        self._from_start = len(self._waiting)
        self._starts = self._from_start
        """Starts that are not told yet."""
        self._lead: tuple[float, list[float]] | None = None
        """Reward and actions of the best episode."""
        self._warm_up = settings.warm_up or (40 if starts else 100)
        self._sigma = settings.sigma or (0.1 if starts else 0.5)
        self._decay = settings.sigma_decay or (0.99 if starts else 0.95)
        self._explored = _first(settings.explored, 0.3 if starts else 1.0)
        self._around_best = _first(settings.around_best, 0.5 if starts else 0.0)
        self._open: list[Walked] = []
        """Asked, not told."""
        self._told = 0
        self._seen: set[Candidate] = set()
        """Asked for so far, where that is looked at."""

    def ask(self, n: int = 1) -> list[Candidate]:
        given = []
        for _ in range(n):
            if not self._waiting and self._starts:  # where to go from the starts is not known yet
                break
            episode = self._waiting.pop(0) if self._waiting else self._explore(self._told + len(self._open))
            self._open.append(episode)
            if self._from_start:
                self._seen.add(episode.candidate)
            given.append(episode.candidate)
        return given

    def _explore(self, episode: int) -> Walked:
        if not self._from_start and episode < self._warm_up:
            return self._walk.run(lambda index, state: self._random.random())
        if not self._from_start:
            return self._episode(episode)
        for _ in range(_TRIES):  # what was scored already teaches nothing new
            found = self._episode(episode)
            if found.candidate not in self._seen:
                break
        return found

    def _episode(self, episode: int) -> Walked:
        sigma = self._sigma * self._decay ** max(0, episode - self._warm_up)
        best = self._lead[1] if self._lead is not None and self._random.random() < self._around_best else None

        forced = self._random.randrange(len(self._walk.variables)) if self._explored < 1.0 else 0

        def act(index: int, state: tuple[float, ...]) -> float:
            mean = self._agent.act(state) if best is None else best[index]
            noisy = self._explored == 1.0 or index == forced or self._random.random() < self._explored
            return self._noisy(mean, sigma) if noisy else mean

        return self._walk.run(act)

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
        self._starts = max(0, self._starts - 1)
        better = self._lead is None or reward > self._lead[0]
        if better:
            self._lead = reward, self._walk.actions_of(episode.candidate)
        if self._from_start and (self._told == self._from_start or (better and not self._starts)):
            self._follow_best()
        if self._told > self._warm_up:
            updates = self.settings.updates if self.settings.updates is not None else len(episode.actions)
            for _ in range(updates):
                self._agent.update()

    def _follow_best(self) -> None:
        """Fit the actor to the best episode's actions."""
        assert self._lead is not None
        walked = self._walk.again(self._lead[1], fit="clip")
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
            "waiting": [[list(one.actions), one.fit] for one in [*self._open, *self._waiting]],
            "told": self._told,
            "starts": self._starts,
            "lead": self._lead,
            "seen": sorted([one[name] for name in self._names] for one in self._seen),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._agent.restore(state["agent"])
        version, numbers, spare = state["random"]
        self._random.setstate((version, tuple(numbers), spare))
        self._waiting = [self._walk.again(actions, fit=fit) for actions, fit in state["waiting"]]
        self._open = []
        self._told = int(state["told"])
        self._starts = int(state["starts"])
        self._lead = None if state["lead"] is None else (float(state["lead"][0]), list(state["lead"][1]))
        self._seen = {Candidate(dict(zip(self._names, row, strict=True))) for row in state["seen"]}
        self._seen -= {one.candidate for one in self._waiting}
