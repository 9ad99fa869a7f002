"""The tuner `annealing`: the contract, its search, its rule of acceptance."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from amc_baselines._annealing import AnnealingTuner
from amc_baselines.plugin import AnnealingSettings

from amc_plugins.testing import assert_tuner, chain_space, every_candidate
from amc_plugins.tuning import Candidate, Space

WEIGHTS = (1.0, 8.0, 2.0)


def tuner(where: Space, seed: int = 0, **settings: float | bool) -> AnnealingTuner:
    return AnnealingTuner(AnnealingSettings(**settings), where, seed)


def score(where: Space) -> Mapping[Candidate, float]:
    """Not the sum that the allocation minimises: errors that make each other worse."""

    class Scores(dict[Candidate, float]):
        def __missing__(self, candidate: Candidate) -> float:
            errors = [where.variables[i].error(candidate[f"v{i}"]) for i in range(3)]
            return -sum(errors) - 4.0 * errors[0] * errors[2] - 2.0 * errors[1] * errors[2]

    return Scores()


@pytest.mark.parametrize("from_allocations", [True, False])
def test_contract(from_allocations: bool) -> None:
    where = chain_space(weights=WEIGHTS)
    scores = score(where)
    found = assert_tuner(
        lambda seed: tuner(where, seed, from_allocations=from_allocations),
        lambda one: {"score": scores[one]},
        stops=(0, 1, 2, 9, 30),
    )
    assert (found[:2] == list(where.starts)) is from_allocations


def test_contract_with_an_unordered_variable() -> None:
    where = chain_space(widths=(8, 6), kinds=3)
    found = assert_tuner(lambda seed: tuner(where, seed), lambda one: {"score": float(one["v0"] - one["kind"])})
    assert {candidate["kind"] for candidate in found} == {0, 1, 2}


def test_it_ends_nearer_to_the_optimum_than_it_starts() -> None:
    where = chain_space(weights=WEIGHTS)
    scores = score(where)
    optimum = max(scores[one] for one in every_candidate(where))
    start = max(scores[one] for one in where.starts)
    assert optimum - start > 0.01
    gaps = []
    for seed in range(3):
        one = tuner(where, seed)
        best = -10.0
        for _ in range(120):
            (candidate,) = one.ask()
            one.tell(candidate, {"score": scores[candidate]})
            best = max(best, scores[candidate])
        gaps.append(optimum - best)
    assert sorted(gaps)[1] <= 0.25 * (optimum - start), gaps


def test_worse_candidates_are_accepted_while_it_is_hot_and_not_when_it_is_cold() -> None:
    where = chain_space()

    def accepted(cooling: float) -> int:
        """How many of 40 candidates, each by one temperature worse than the place, were taken as the new place."""
        one = tuner(where, probes=5, cooling=cooling)
        count = 0
        for told in range(47):
            (candidate,) = one.ask()
            one.tell(candidate, {"score": (one.state()["score"] or 0.0) - 0.01})
            count += told >= 7 and one.state()["place"] == list(candidate.values())
        return count

    assert 7 <= accepted(0.9999) <= 23  # exp(-1) of 40 is 14.7
    assert accepted(0.1) <= 1


def test_several_candidates_at_once_are_neighbours_of_one_place() -> None:
    one = tuner(chain_space())
    assert len(one.ask(5)) == 2  # the starts; where to go from there is not known yet
    for start in one.space.starts:
        one.tell(start, {"score": 0.0})
    asked = one.ask(5)
    assert len(asked) == 5
    for candidate in asked:
        one.tell(candidate, {"score": -1.0})
    assert one.state()["place"] == list(one.space.starts[0].values())


def test_a_space_of_one_candidate_ends() -> None:
    where = chain_space(widths=(1, 1), share=1.0)
    one = tuner(where)
    for candidate in one.ask(3):
        one.tell(candidate, {"score": 0.0})
    assert one.ask() == []
