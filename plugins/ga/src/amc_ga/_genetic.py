"""The tuner `ga`: (mu + lambda) with budget repair, or NSGA-II."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from deap import tools

from amc_ga._operators import Genome, crossed, drawing_from, fitness_class, genes_of, mutated, values_of
from amc_ga.plugin import GeneticSettings
from amc_plugins.plugin import SettingsError
from amc_plugins.tuning import Candidate, Space, Tuner

__all__ = ["GeneticTuner"]

_TRIES = 20
"""Broods bred in search of new candidates; after that random ones fill up."""
_DRAWS = 1000
"""Random draws in a row without anything new after which the space counts as exhausted."""


class GeneticTuner(Tuner):
    """Generations of candidates that fit the budget. All children of a generation are bred before the first of them is told,
    and survivors are chosen when the last one is: neither the order of the answers nor how many are asked for at once changes
    anything.

    With one objective every child is repaired to the budget and uses it up; the best of parents and children survive
    (mu + lambda). With several, a child is repaired to a budget of its own, drawn between the cheapest candidate and the
    space's budget, and survivors are chosen by front and crowding distance (NSGA-II: Deb, Pratap, Agarwal and Meyarivan, IEEE
    TEC 6(2), 2002).
    """

    settings: GeneticSettings

    def __init__(self, settings: GeneticSettings, space: Space, seed: int) -> None:
        super().__init__(settings, space, seed)
        self._variables = space.variables
        self._names = [variable.name for variable in space.variables]
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._fitness = fitness_class(settings.objectives)
        self._least = float(space.macs(space.cheapest))
        self._probability = settings.mutation or max(0.2, 1.0 / len(space.variables))
        self._survivors: list[Genome] = []
        self._brood: list[Candidate] = []
        """The children of this generation, in the order in which they are asked for."""
        self._asked: set[Candidate] = set()
        """Those of them that have been asked for."""
        self._answers: dict[Candidate, tuple[float, ...]] = {}
        """Told of this generation's children."""
        self._seen: set[Candidate] = set()

    # --- asking and telling ---

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.settings.objectives

    def ask(self, n: int = 1) -> list[Candidate]:
        if len(self._brood) == len(self._answers):
            self._select()
            self._brood, self._asked, self._answers = self._bred(), set(), {}
            self._seen.update(self._brood)
        given = [one for one in self._brood if one not in self._asked][:n]
        self._asked.update(given)
        return given

    def tell(self, candidate: Candidate, objectives: Mapping[str, float]) -> None:
        """Raises `SettingsError` when an objective of the settings is not told."""
        if candidate not in self._brood:
            return
        missing = [name for name in self.settings.objectives if name not in objectives]
        if missing:
            raise SettingsError(f"the evaluation gives no `{missing[0]}`; it gives {', '.join(objectives)}")
        self._answers[candidate] = tuple(float(objectives[name]) for name in self.settings.objectives)

    @property
    def _front(self) -> bool:
        return len(self.settings.objectives) > 1

    # --- generations ---

    def _select(self) -> None:
        """Survivors of parents and children; ties go to the older."""
        pool = self._survivors + [self._genome(child, self._answers[child]) for child in self._brood]
        if not pool:
            return
        count = min(self.settings.population, len(pool))
        if self._front:
            self._survivors = tools.selNSGA2(pool, count)
            self._rank()
        else:
            self._survivors = tools.selBest(pool, count)

    def _rank(self) -> None:
        for rank, front in enumerate(tools.sortNondominated(self._survivors, len(self._survivors))):
            for genome in front:
                genome.rank = rank
            tools.emo.assignCrowdingDist(front)

    def _genome(self, candidate: Candidate, values: Sequence[float]) -> Genome:
        fitness = self._fitness()
        fitness.values = tuple(values)
        return Genome(genes_of(self._variables, candidate), candidate, fitness)

    def _bred(self) -> list[Candidate]:
        """The next children, none seen before; empty when the space is exhausted."""
        brood: dict[Candidate, None] = {}
        size = self.settings.population
        for _ in range(_TRIES):
            if len(brood) >= size:
                break
            proposed = self._offspring() if self._survivors else self._founders()
            for candidate in proposed:
                if len(brood) < size and candidate not in self._seen:
                    brood[candidate] = None
        misses = 0
        while len(brood) < size and misses < _DRAWS:
            drawn = self._repaired(dict(self.space.draw(self._numbers)))
            if drawn in brood or drawn in self._seen:
                misses += 1
            else:
                brood[drawn] = None
        return list(brood)

    def _founders(self) -> list[Candidate]:
        """The space's starts, as many variations of them, and random candidates: half of the population each."""
        starts = list(dict.fromkeys(self.space.starts)) if self.settings.from_allocations else []
        found = list(starts)
        with drawing_from(self._random):
            while starts and len(found) < self.settings.population // 2:
                genes = genes_of(self._variables, starts[len(found) % len(starts)])
                genes = mutated(self._variables, genes, self.settings.mutation_eta, max(self._probability, 0.3))
                found.append(self._repaired(values_of(self._variables, genes)))
        while len(found) < self.settings.population:
            found.append(self._repaired(dict(self.space.draw(self._numbers))))
        return found

    def _offspring(self) -> list[Candidate]:
        found: list[Candidate] = []
        with drawing_from(self._random):
            while len(found) < self.settings.population:
                a, b = self._parent(), self._parent()
                pair = (list(a), list(b))
                if random.random() < self.settings.crossover:
                    pair = crossed(self._variables, a, b, self.settings.crossover_eta)
                for genes in pair:
                    child = mutated(self._variables, genes, self.settings.mutation_eta, self._probability)
                    found.append(self._repaired(values_of(self._variables, child)))
        return found

    def _parent(self) -> Genome:
        """A binary tournament; in NSGA-II by front, then by crowding distance."""
        a, b = (random.choice(self._survivors) for _ in range(2))
        if not self._front:
            return a if a.fitness >= b.fitness else b
        key = [(one.rank, -one.fitness.crowding_dist) for one in (a, b)]
        return a if key[0] <= key[1] else b

    def _repaired(self, values: dict[str, int]) -> Candidate:
        if not self._front:
            return self.space.repair(Candidate(values))
        share = float(self._numbers.random())
        return self.space.repair(Candidate(values), self._least + share * (self.space.budget - self._least))

    # --- state ---

    def state(self) -> dict[str, Any]:
        version, numbers, spare = self._random.getstate()
        return {
            "random": [version, list(numbers), spare],
            "numbers": self._numbers.bit_generator.state,
            "survivors": [[self._row(one.candidate), list(one.fitness.values)] for one in self._survivors],
            "brood": [self._row(one) for one in self._brood],
            "answers": [[self._row(one), list(values)] for one, values in self._answers.items()],
            "seen": sorted(self._row(one) for one in self._seen),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        version, numbers, spare = state["random"]
        self._random.setstate((version, tuple(numbers), spare))
        self._numbers.bit_generator.state = state["numbers"]
        self._survivors = [self._genome(self._candidate(row), values) for row, values in state["survivors"]]
        if self._front and self._survivors:
            self._rank()
        self._brood = [self._candidate(row) for row in state["brood"]]
        self._answers = {self._candidate(row): tuple(values) for row, values in state["answers"]}
        self._asked = set(self._answers)
        self._seen = {self._candidate(row) for row in state["seen"]}

    def _row(self, candidate: Candidate) -> list[int]:
        return [candidate[name] for name in self._names]

    def _candidate(self, row: Sequence[int]) -> Candidate:
        return Candidate(dict(zip(self._names, row, strict=True)))
