"""Genomes and their variation: DEAP's operators, drawing from a generator of our own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deap import base, tools

if TYPE_CHECKING:
    from amc_plugins.tuning import Candidate, Variable

__all__ = ["Genome", "crossed", "drawing_from", "fitness_class", "genes_of", "mutated", "values_of"]


def fitness_class(objectives: Sequence[str]) -> type[Any]:
    """DEAP's fitness of these objectives: `score` is maximised, the others are minimised."""
    weights = tuple(1.0 if name == "score" else -1.0 for name in objectives)
    return type("Fitness", (base.Fitness,), {"weights": weights})


class Genome(list[float]):
    """A candidate for DEAP: per variable the place of its value among the choices, a real number while it is varied."""

    def __init__(self, genes: Sequence[float], candidate: Candidate, fitness: Any) -> None:
        super().__init__(genes)
        self.candidate = candidate
        self.fitness = fitness
        self.rank = 0
        """Of its front among the survivors; NSGA-II only."""


@contextmanager
def drawing_from(generator: random.Random) -> Iterator[None]:
    """DEAP draws from the module `random`: inside, that continues `generator`; outside, it is as it was."""
    before = random.getstate()
    random.setstate(generator.getstate())
    try:
        yield
    finally:
        generator.setstate(random.getstate())
        random.setstate(before)


def genes_of(variables: Sequence[Variable], candidate: Candidate) -> list[float]:
    return [float(variable.choices.index(candidate[variable.name])) for variable in variables]


def values_of(variables: Sequence[Variable], genes: Sequence[float]) -> dict[str, int]:
    return {variable.name: variable.choices[round(gene)] for variable, gene in zip(variables, genes, strict=True)}


def crossed(
    variables: Sequence[Variable], a: Sequence[float], b: Sequence[float], eta: float
) -> tuple[list[float], list[float]]:
    """Two children: simulated binary crossover of ordered genes (Deb and Agrawal, Complex Systems 9, 1995), the others
    exchanged with probability 1/2. Draws from the module `random`.
    """
    first, second = list(a), list(b)
    ordered = [index for index, variable in enumerate(variables) if variable.ordered]
    if ordered:
        one, two = [first[index] for index in ordered], [second[index] for index in ordered]
        highest = [float(len(variables[index].choices) - 1) for index in ordered]
        tools.cxSimulatedBinaryBounded(one, two, eta, [0.0] * len(ordered), highest)
        for place, index in enumerate(ordered):
            first[index], second[index] = one[place], two[place]
    for index, variable in enumerate(variables):
        if not variable.ordered and random.random() < 0.5:
            first[index], second[index] = second[index], first[index]
    return first, second


def mutated(variables: Sequence[Variable], genes: Sequence[float], eta: float, probability: float) -> list[float]:
    """Polynomial mutation of ordered genes (Deb and Goyal, 1996), any other choice for the others; each with `probability`. At
    least one gene changes its place. Draws from the module `random`.
    """
    changed = list(genes)
    forced = random.randrange(len(variables))
    for index, variable in enumerate(variables):
        last = len(variable.choices) - 1
        if last == 0 or (random.random() >= probability and index != forced):
            continue
        if variable.ordered:
            gene = [changed[index]]
            tools.mutPolynomialBounded(gene, eta, 0.0, float(last), 1.0)
            if index == forced and round(gene[0]) == round(changed[index]):
                gene[0] = min(max(changed[index] + random.choice((-1.0, 1.0)), 0.0), float(last))
            changed[index] = gene[0]
        else:
            others = [place for place in range(last + 1) if place != round(changed[index])]
            changed[index] = float(random.choice(others))
    return changed
