"""The tuner `random`: budget, no duplicates, reproducible, resumable through JSON, and its end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping

import pytest
from amc_baselines._random import RandomTuner
from amc_baselines.plugin import RandomSettings

from amc_plugins.plugin import BudgetError
from amc_plugins.tuning import Candidate, Space, Variable


def space(widths: tuple[int, ...] = (12, 20, 16), share: float = 0.5) -> Space:
    variables = tuple(
        Variable(f"v{i}", (f"l{i}",), tuple(range(1, width + 1)), width, "channels") for i, width in enumerate(widths)
    )

    def macs(kept: Mapping[str, int]) -> int:
        counts = [3, *(kept[f"v{i}"] for i in range(len(widths)))]
        return sum(9 * a * b for a, b in itertools.pairwise(counts))

    full = macs({variable.name: variable.full for variable in variables})
    starts = (Candidate({f"v{i}": max(1, width // 2) for i, width in enumerate(widths)}),)
    return Space(variables, macs, share * full, starts)


def tuner(where: Space, seed: int = 0, **settings: bool) -> RandomTuner:
    return RandomTuner(RandomSettings(**settings), where, seed)


def test_candidates_fit_the_budget_and_come_once() -> None:
    where = space()
    asked = tuner(where).ask(60)
    assert len(set(asked)) == len(asked) == 60
    assert asked[0] == where.starts[0]
    assert all(where.macs(candidate) <= where.budget for candidate in asked)
    assert len({candidate["v0"] for candidate in asked}) > 5  # it does search
    assert tuner(where, from_allocations=False).ask(1) != [where.starts[0]]


def test_same_seed_same_trajectory_and_another_seed_another() -> None:
    where = space()
    assert tuner(where, 3).ask(20) == tuner(where, 3).ask(20)
    assert tuner(where, 3).ask(20) != tuner(where, 4).ask(20)
    one_by_one = tuner(where, 3)
    assert [one_by_one.ask()[0] for _ in range(20)] == tuner(where, 3).ask(20)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_restored_search_goes_on_as_if_it_had_not_stopped(stop: int) -> None:
    where = space()
    whole = tuner(where, 1)
    expected = []
    for _ in range(15):
        (candidate,) = whole.ask()
        whole.tell(candidate, {"score": 0.5})
        expected.append(candidate)
    first = tuner(where, 1)
    for _ in range(stop):
        (candidate,) = first.ask()
        first.tell(candidate, {"score": 0.25})
    stored = json.dumps(first.state())
    first.ask(2)  # lost when the process dies
    second = tuner(where, 99)
    second.restore(json.loads(stored))
    assert [second.ask()[0] for _ in range(15 - stop)] == expected[stop:]


def test_what_was_asked_and_not_told_is_asked_again() -> None:
    where = space()
    first = tuner(where)
    asked = first.ask(4)
    first.tell(asked[1], {"score": 1.0})
    second = tuner(where)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.ask(3) == [asked[0], asked[2], asked[3]]
    assert second.ask(1)[0] not in asked


def test_an_exhausted_space_ends_the_search() -> None:
    where = space(widths=(3, 3))
    one = tuner(where)
    found = one.ask(1000)
    assert 0 < len(found) < 9
    assert one.ask(5) == []


def test_nothing_to_tune_is_refused() -> None:
    with pytest.raises(BudgetError, match="no variables"):
        tuner(Space((), lambda kept: 1, 1.0))
