"""Variation: inside the choices, by the published distributions, from a generator of our own."""

from __future__ import annotations

import random
import statistics

import pytest
from amc_ga._operators import crossed, drawing_from, genes_of, mutated, values_of

from amc_plugins.tuning import Variable

VARIABLES = (
    Variable("a", ("a",), tuple(range(10, 61)), 60, "channels"),
    Variable("b", ("b",), (1, 2, 4, 8, 30), 30, "rank"),
    Variable("c", ("c",), (0, 1, 2), 0, "scheme", ordered=False),
)


def test_genes_are_places_among_the_choices() -> None:
    candidate = {"a": 12, "b": 8, "c": 1}
    genes = genes_of(VARIABLES, candidate)  # type: ignore[arg-type]
    assert genes == [2.0, 3.0, 1.0]
    assert values_of(VARIABLES, [2.4, 2.6, 0.6]) == candidate


def test_the_global_generator_is_left_alone_and_ours_continues() -> None:
    random.seed(5)
    expected = [random.random() for _ in range(3)]
    random.seed(5)
    ours = random.Random(9)
    with drawing_from(ours):
        inside = [random.random() for _ in range(2)]
    with pytest.raises(RuntimeError), drawing_from(ours):
        inside.append(random.random())
        raise RuntimeError
    with drawing_from(ours):
        inside.append(random.random())
    assert [random.random() for _ in range(3)] == expected
    plain = random.Random(9)
    assert inside == [plain.random() for _ in range(4)]


def test_children_of_a_crossover() -> None:
    """Simulated binary crossover keeps the parents' mean (away from the bounds) and spreads less with a higher eta."""
    spreads = {}
    with drawing_from(random.Random(1)):
        for eta in (2.0, 20.0):
            sums, distances, kinds = [], [], set()
            for _ in range(800):
                first, second = crossed(VARIABLES, [22.0, 2.0, 0.0], [28.0, 3.0, 2.0], eta)
                for child in (first, second):
                    assert all(0 <= gene <= len(variable.choices) - 1 for gene, variable in zip(child, VARIABLES, strict=True))
                sums.append(first[0] + second[0])
                distances.append(abs(first[0] - 22.0) if abs(first[0] - 22.0) < abs(first[0] - 28.0) else abs(first[0] - 28.0))
                kinds.add((first[2], second[2]))
            assert statistics.mean(sums) == pytest.approx(50.0, abs=0.2)
            assert kinds == {(0.0, 2.0), (2.0, 0.0)}
            spreads[eta] = statistics.mean(distances)
    assert spreads[20.0] < 0.5 * spreads[2.0]


def test_mutation_changes_at_least_one_value_and_stays_inside() -> None:
    changes = [0, 0, 0]
    kinds = set()
    with drawing_from(random.Random(2)):
        for _ in range(600):
            before = [0.0, 4.0, 1.0]
            after = mutated(VARIABLES, before, 20.0, 0.1)
            assert all(0 <= gene <= len(variable.choices) - 1 for gene, variable in zip(after, VARIABLES, strict=True))
            changed = [round(a) != round(b) for a, b in zip(after, before, strict=True)]
            changes = [count + one for count, one in zip(changes, changed, strict=True)]
            kinds.add(after[2])
    assert min(changes) > 0.15 * 600, changes
    assert kinds == {0.0, 1.0, 2.0}
