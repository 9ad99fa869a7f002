"""Running a search: a tuner asks, the plan assembles, the evaluation scores, the tuner is told; every score is kept."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins.compression import Candidate, CompressionResult, Plan
from amc_plugins.core.budgets import COUNTS, NEAR, Budget, Cost, cost_of
from amc_plugins.core.chance import lead_error, within_chance
from amc_plugins.core.describe import digest_of
from amc_plugins.core.errors import BudgetError, SettingsError
from amc_plugins.core.scoring import Judge, Objective
from amc_plugins.core.specs import Settings
from amc_plugins.core.store import SCORES, EvaluationStore
from amc_plugins.core.workers import Workers
from amc_plugins.tuning import STARTS, Space, Tuner

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.runs import Run

__all__ = ["BestCandidate", "Evaluation", "Search", "search"]

_log = logging.getLogger(__name__)

_REPEATS = 100
"""A tuner that proposes only what is scored already, so many times in a row, has nothing new to say."""
_STATE_SHARE = 50
"""The tuner's state is written when so many times as long has passed as the last writing took."""


@dataclass(frozen=True)
class Evaluation:
    """One scored candidate. `objectives["score"]` is what the search maximises."""

    candidate: Candidate
    objectives: Mapping[str, float]

    @property
    def score(self) -> float:
        return self.objectives["score"]


@dataclass
class Search:
    """A finished search."""

    plan: Plan
    tuner: str
    total: float
    """The share removed of what the budget counts."""
    evaluations: list[Evaluation] = field(default_factory=list)
    """In the order in which the tuner asked; each candidate once."""
    objective: str = "divergence"
    budget: Budget = field(default_factory=Budget)
    baselines: dict[str, Evaluation] = field(default_factory=dict)
    """The plan's own candidates, `allocation` and `uniform`, by the same measure. They are no evaluations of the tuner unless
    it asked for them."""
    confirmed: list[Evaluation] = field(default_factory=list)
    """The best few and the baselines, scored on data that the search has not seen; empty when nothing was confirmed."""
    merit: Callable[[Mapping[str, float]], float] = lambda objectives: objectives["score"]
    """What is best: the score, unless the tuner says otherwise."""
    measured: dict[Candidate, float] = field(default_factory=dict)
    """Where the budget's cost is predicted from parts: the measured cost of whole networks, relative to the original's."""
    _best: BestCandidate | None = field(default=None, init=False, repr=False)

    @property
    def best(self) -> BestCandidate:
        """The winner on unseen data among the confirmed candidates that the tuner asked for; without any, the evaluation of
        most merit. The first of equals. A baseline gives way only to what leads it by more than chance (`lucky`).
        """
        unseen = {one.candidate: one for one in self.confirmed}
        chosen = self.ranked()[0]
        if self._best is None or self._best.evaluation is not chosen:
            self._best = BestCandidate(self.plan, chosen, unseen.get(chosen.candidate))
        return self._best

    def ranked(self) -> list[Evaluation]:
        """The evaluations that may be the best, the best first; those whose measured network misses the budget are none."""
        unseen = {one.candidate: one for one in self.confirmed}
        most = (1.0 + NEAR) * (1.0 - self.total)
        fit = [one for one in self.evaluations if self.measured.get(one.candidate, 0.0) <= most]
        if not fit:
            raise BudgetError(
                f"no candidate of the search meets {self.total:g} of the {self.budget.words} when it is measured whole",
                hint="search longer, or for a smaller `total`",
            )
        pool = [one for one in fit if one.candidate in unseen] or fit
        ranked = sorted(pool, key=lambda one: -self.merit((unseen.get(one.candidate) or one).objectives))
        lucky = self.lucky()
        own = next((one for one in ranked if one.candidate == self._better_baseline()), None)
        if not lucky or own is None:
            return ranked
        ahead = [one for one in ranked[: ranked.index(own)] if one.candidate not in lucky]
        return [*ahead, own, *(one for one in ranked if one is not own and one not in ahead)]

    def lucky(self) -> set[Candidate]:
        """The confirmed candidates that lead the better baseline on unseen data by no more than chance: `core.chance`.

        Empty where an evaluation has no scores of samples, and where something else than the score is best.
        """
        scored = {one.candidate: one.objectives for one in self.confirmed if self.merit(one.objectives) == one.score}
        better = self._better_baseline()
        return within_chance(scored, better) if better in scored else set()

    def _better_baseline(self) -> Candidate | None:
        """On unseen data."""
        own = {one.candidate for one in self.baselines.values()}
        scores = {one.candidate: one.score for one in self.confirmed if one.candidate in own}
        return max(scores, key=lambda one: scores[one], default=None)

    @property
    def gains(self) -> dict[str, float]:
        """By baseline: the score of the best minus the baseline's, both on unseen data if they were confirmed there."""
        best = self.best
        unseen = {one.candidate: one.score for one in self.confirmed}
        if best.confirmed is not None and all(one.candidate in unseen for one in self.baselines.values()):
            return {name: best.confirmed.score - unseen[one.candidate] for name, one in self.baselines.items()}
        return {name: best.score - one.score for name, one in self.baselines.items()}

    def front(self, cost: str = "macs") -> list[Evaluation]:
        """The evaluations that no other beats in both score and `cost` (`macs`, `parameters`, ...), the cheapest first."""
        found: list[Evaluation] = []
        for one in sorted(self.evaluations, key=lambda one: (one.objectives[cost], -one.score)):
            if not found or one.score > found[-1].score:
                found.append(one)
        return found


@dataclass(frozen=True)
class BestCandidate:
    """A search's winner. `network` and `result` are made on first use, with the final refit."""

    plan: Plan
    evaluation: Evaluation
    confirmed: Evaluation | None = None
    """The same candidate on unseen data."""

    @property
    def candidate(self) -> Candidate:
        return self.evaluation.candidate

    @property
    def score(self) -> float:
        """Its score in the search."""
        return self.evaluation.score

    @cached_property
    def result(self) -> CompressionResult:
        return self.plan.apply(self.candidate)

    @property
    def network(self) -> ReconstructedNetwork:
        return self.result.network


def search(
    plan: Plan,
    name: str,
    tuner_class: Callable[[Any, Space, int], Tuner],
    settings: Settings,
    *,
    total: float,
    budget: Budget,
    objective: Objective,
    evaluations: int,
    seed: int,
    confirm: int = 3,
    baselines: bool = True,
    workers: int = 1,
    folder: str | os.PathLike[str] | None = None,
    run: Run | None = None,
) -> Search:
    """See `amc_plugins.tune`."""
    for argument, value in (("evaluations", evaluations), ("workers", workers)):
        if value < 1:
            raise SettingsError(f"`{argument}` must be at least 1; given was {value}")
    with ExitStack() as stack:
        store: EvaluationStore | None = None
        if folder is not None:
            identity = {**_identity(plan, name, settings, total, objective, seed), "budget": budget.identity}
            store = stack.enter_context(EvaluationStore(Path(folder) / SCORES, identity))
        space = _space(plan, total, budget, store)
        tuner = tuner_class(settings, space, seed)
        found = Search(plan, name, total, objective=objective.name, budget=budget, merit=tuner.merit)
        judge = Judge(plan, objective.score)
        pool = stack.enter_context(Workers(judge, workers, folder)) if workers > 1 else None
        driver = _Driver(tuner, judge, pool, store, found, run)
        if baselines:
            driver.score_baselines(dict(zip(STARTS, space.starts, strict=False)))
        driver.go_on(evaluations, workers)
        if objective.unseen is not None and confirm:
            driver.confirm(Judge(plan, objective.unseen), confirm)
        driver.measure(cost_of(plan, budget))
    return found


def _space(plan: Plan, total: float, budget: Budget, store: EvaluationStore | None) -> Space:
    """The space, with the limit of a search that goes on as it was: another measurement would give another one."""
    if budget.counts != "latency" or store is None:
        return Space.of(plan, total, budget)
    known = store.limit()
    space = Space.of(plan, total, budget, limit=known)
    if known is None:
        store.set_limit(space.budget)
    return space


class _Driver:
    """The loop of a search, and what it knows."""

    def __init__(
        self,
        tuner: Tuner,
        judge: Judge,
        pool: Workers | None,
        store: EvaluationStore | None,
        found: Search,
        run: Run | None,
    ) -> None:
        self.tuner, self.judge, self.pool, self.store, self.found, self.run = tuner, judge, pool, store, found, run
        self.costs = _costs(found, tuner)
        """By name: what objectives get besides what the judge gives."""
        self.known: dict[Candidate, Mapping[str, float]] = {}
        """All scores there are, of this process and of earlier ones."""
        self.told: set[Candidate] = set()
        """What the tuner has been told: the candidates of `found.evaluations`."""
        self.stored: dict[Candidate, int] = {}
        """The candidates of the stored trajectory, with their positions."""
        self._saved_at, self._saving_took = -float("inf"), 0.0
        if store is not None:
            self._take_up(store)
        self._earlier = frozenset(self.stored)
        """What other processes scored; their observers have heard of it."""

    def _take_up(self, store: EvaluationStore) -> None:
        for values, objectives in store.others("start"):
            self.known[self._ordered(values)] = objectives
        rows = {place: (self._ordered(values), objectives) for place, (values, objectives) in store.evaluations().items()}
        for place, (candidate, objectives) in rows.items():
            self.known[candidate], self.stored[candidate] = objectives, place
        state = store.state()
        if state is not None:
            self.tuner.restore(state.state)
            for place in range(state.told):
                self._append(*rows[place])

    def _ordered(self, values: Mapping[str, int]) -> Candidate:
        """A candidate in the order of the plan's variables; the store sorts them by name."""
        return Candidate({variable.name: values[variable.name] for variable in self.found.plan.variables})

    def _append(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        self.told.add(candidate)
        self.found.evaluations.append(Evaluation(candidate, objectives))

    def score_baselines(self, starts: Mapping[str, Candidate]) -> None:
        new = [one for one in dict.fromkeys(starts.values()) if one not in self.known]
        for candidate, objectives in self._scores(new):
            self.known[candidate] = objectives
            if self.store is not None:
                self.store.add_other("start", candidate, objectives)
        self.found.baselines = {name: Evaluation(one, self.known[one]) for name, one in starts.items()}

    def go_on(self, evaluations: int, workers: int) -> None:
        """Ask, score, tell, until there are `evaluations` different candidates or the tuner has nothing new."""
        repeats = 0
        while len(self.told) < evaluations and repeats < _REPEATS:
            asked = self.tuner.ask(min(workers, evaluations - len(self.told)))
            if not asked:
                break
            fresh = [one for one in dict.fromkeys(asked) if one not in self.told]
            places = {one: len(self.told) + index for index, one in enumerate(fresh)}
            self._score(fresh, places)
            for candidate in asked:
                first = candidate not in self.told
                objectives = self.known[candidate]
                if first:
                    self._append(candidate, objectives)
                self.tuner.tell(candidate, objectives)
                repeats = 0 if first else repeats + 1
                if first and self.run is not None and candidate not in self._earlier:
                    self.run.candidate_scored(candidate, objectives)
            if fresh:
                self._save_state()

    def _score(self, candidates: Sequence[Candidate], places: Mapping[Candidate, int]) -> None:
        """Score what is not known yet, and commit every score the moment it is."""
        for candidate, objectives in self._scores([one for one in candidates if one not in self.known]):
            self.known[candidate] = objectives
            self._store(candidate, places[candidate])
        for candidate in candidates:  # baselines: known, but new to the trajectory
            self._store(candidate, places[candidate])

    def _store(self, candidate: Candidate, place: int) -> None:
        if self.store is None or candidate in self.stored:
            return
        if place in self.stored.values():
            _log.warning("tuner `%s` does not ask again what it asked before it was stopped", self.found.tuner)
            place = max(self.stored.values()) + 1
        self.store.add(place, candidate, self.known[candidate])
        self.stored[candidate] = place

    def _scores(self, candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, dict[str, float]]]:
        alone = self.pool is None or len(candidates) < 2
        scored = ((one, self.judge(one)) for one in candidates) if alone or self.pool is None else self.pool(candidates)
        for candidate, objectives in scored:
            for name, cost in self.costs.items():
                objectives.setdefault(name, cost.objective(candidate))
            yield candidate, objectives

    def _save_state(self) -> None:
        """Write the tuner's state, unless it was a moment ago: a search that goes on tells what was told since once more."""
        started = time.perf_counter()
        if self.store is None or started - self._saved_at < _STATE_SHARE * self._saving_took:
            return
        if any(self.stored[one.candidate] != place for place, one in enumerate(self.found.evaluations)):
            return  # a trajectory that was not taken up; the next process starts from the last good state
        self.store.save_state(self.tuner.state(), len(self.found.evaluations))
        self._saved_at = time.perf_counter()
        self._saving_took = self._saved_at - started

    def confirm(self, judge: Judge, count: int) -> None:
        """Score the `count` of most merit, and the baselines, on unseen data."""
        ranked = sorted(self.found.evaluations, key=lambda one: -self.found.merit(one.objectives))
        own = [one.candidate for one in self.found.baselines.values()]
        known = {self._ordered(values): objectives for values, objectives in self.store.others("confirm")} if self.store else {}
        samples: dict[Candidate, Tensor | None] = {}

        def score(candidate: Candidate, better: Candidate | None) -> None:
            objectives, samples[candidate] = judge.with_samples(candidate)
            if better is not None:
                if better not in samples:  # scored by an earlier process
                    samples[better] = judge.with_samples(better)[1]
                objectives |= lead_error(samples[candidate], samples[better])
            known[candidate] = objectives
            if self.store is not None:
                self.store.add_other("confirm", candidate, objectives)

        for candidate in own:
            if candidate not in known:
                score(candidate, None)
        better = max(own, key=lambda one: known[one]["score"], default=None)
        chosen = dict.fromkeys([*(one.candidate for one in ranked[:count]), *own])
        for candidate in chosen:
            if candidate not in known:
                score(candidate, better)
            self.found.confirmed.append(Evaluation(candidate, known[candidate]))

    def measure(self, cost: Cost) -> None:
        """Measure the best candidate's whole network, and the next ones until one meets the budget."""
        found = self.found
        if self.store is not None:
            stored = self.store.others("measured")
            found.measured = {self._ordered(values): objectives["share"] for values, objectives in stored}
        while (best := found.ranked()[0].candidate) not in found.measured:
            share = cost.measured(best)
            if share is None:
                return
            found.measured[best] = share
            if self.store is not None:
                self.store.add_other("measured", best, {"share": share})


def _costs(found: Search, tuner: Tuner) -> dict[str, Cost]:
    """The budget's cost and those that the tuner must be told, but what every judge gives."""
    names = {found.budget.counts, *tuner.objectives} & set(COUNTS) - {"macs", "parameters"}
    budget = found.budget
    return {name: cost_of(found.plan, replace(budget, counts=name)) for name in sorted(names)}


def _identity(plan: Plan, name: str, settings: Settings, total: float, objective: Objective, seed: int) -> dict[str, Any]:
    variables = [[variable.name, list(variable.choices)] for variable in plan.variables]
    method = plan.compressor.settings
    return {
        "network": digest_of(plan.network),
        "plan": sha256(repr(variables).encode()).hexdigest(),
        "method": type(plan.compressor).__qualname__,
        "method settings": method.model_dump(mode="json") if isinstance(method, Settings) else repr(method),
        "method seed": plan.seed,
        "objective": objective.name,
        "data": objective.digest,
        "tuner": name,
        "settings": settings.model_dump(mode="json"),
        "total": total,
        "seed": seed,
    }
