"""Running a search: a tuner asks, the plan assembles, the evaluation scores, the tuner is told; every score is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins.compression import Candidate, CompressionResult, Plan
from amc_plugins.core.errors import SettingsError
from amc_plugins.core.objectives import Divergence
from amc_plugins.core.specs import Settings
from amc_plugins.core.store import EvaluationStore
from amc_plugins.tuning import Space, Tuner

if TYPE_CHECKING:
    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.core.runs import Run

__all__ = ["Evaluation", "Search", "search"]

_REPEATS = 100
"""A tuner that proposes only what is scored already, so many times in a row, has nothing new to say."""


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
    evaluations: list[Evaluation] = field(default_factory=list)
    """In the order they were made; each candidate once."""

    @property
    def best(self) -> BestCandidate:
        """The evaluation with the highest score, the first of equals."""
        return BestCandidate(self.plan, max(self.evaluations, key=lambda one: one.score))


@dataclass(frozen=True)
class BestCandidate:
    """A search's winner. `network` and `result` are made on first use, with the final refit."""

    plan: Plan
    evaluation: Evaluation

    @property
    def candidate(self) -> Candidate:
        return self.evaluation.candidate

    @property
    def score(self) -> float:
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
    evaluate: Callable[[ReconstructedNetwork], float] | None,
    evaluations: int,
    seed: int,
    folder: str | os.PathLike[str] | None,
    run: Run | None,
) -> Search:
    """See `amc_plugins.tune`."""
    if evaluations < 1:
        raise SettingsError(f"`evaluations` must be at least 1; given was {evaluations}")
    space = Space.of(plan, total)
    tuner = tuner_class(settings, space, seed)
    score = evaluate or _nearness(plan)
    found = Search(plan, name, total)
    scored: dict[Candidate, Mapping[str, float]] = {}
    with ExitStack() as stack:
        store: EvaluationStore | None = None
        if folder is not None:
            store = stack.enter_context(
                EvaluationStore(Path(folder) / "evaluations.sqlite", _identity(plan, name, settings, total, seed))
            )
            for values, objectives in store.evaluations():
                candidate = Candidate(values)
                scored[candidate] = objectives
                found.evaluations.append(Evaluation(candidate, objectives))
            state = store.state()
            if state is not None:
                tuner.restore(state)
        repeats = 0
        while len(found.evaluations) < evaluations and repeats < _REPEATS:
            asked = tuner.ask(1)
            if not asked:
                break
            candidate = asked[0]
            if candidate in scored:
                repeats += 1
                tuner.tell(candidate, scored[candidate])
                continue
            repeats = 0
            objectives = {"score": float(score(plan.assemble(candidate))), "macs": float(plan.macs(candidate))}
            scored[candidate] = objectives
            found.evaluations.append(Evaluation(candidate, objectives))
            tuner.tell(candidate, objectives)
            if store is not None:
                store.add(candidate, objectives, tuner.state())
            if run is not None:
                run.candidate_scored(candidate, objectives)
    return found


def _nearness(plan: Plan) -> Callable[[ReconstructedNetwork], float]:
    measure = Divergence(plan.network, plan.calibration)
    return lambda network: -measure(network)


def _identity(plan: Plan, name: str, settings: Settings, total: float, seed: int) -> dict[str, Any]:
    weights = sha256()
    for key, tensor in plan.network.state_dict().items():
        weights.update(key.encode())
        weights.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    variables = [[variable.name, list(variable.choices)] for variable in plan.variables]
    return {
        "network": weights.hexdigest(),
        "plan": sha256(repr(variables).encode()).hexdigest(),
        "tuner": name,
        "settings": settings.model_dump(mode="json"),
        "total": total,
        "seed": seed,
    }
