"""The tuner `ga`: the contract, the optimum of spaces that can be enumerated, generations, the front."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from amc_ga._genetic import GeneticTuner
from amc_ga.plugin import GeneticSettings
from pydantic import ValidationError

from amc_plugins.plugin import SettingsError
from amc_plugins.testing import assert_tuner, chain_space, every_candidate
from amc_plugins.tuning import Candidate, Space

WEIGHTS = (1.0, 8.0, 2.0)


def tuner(where: Space, seed: int = 0, **settings: object) -> GeneticTuner:
    return GeneticTuner(GeneticSettings.model_validate(settings), where, seed)


def quality(where: Space, candidate: Candidate) -> float:
    """Not the sum that the allocation minimises: errors that make each other worse."""
    errors = [where.variables[i].error(candidate[f"v{i}"]) for i in range(3) if f"v{i}" in candidate]
    errors += [0.0] * (3 - len(errors))
    kind = 0.7 * (candidate["kind"] == 1) + 0.05 * candidate["kind"] if "kind" in candidate else 0.0
    return -sum(errors) - 4.0 * errors[0] * errors[2] - 2.0 * errors[1] * errors[2] - kind


def objectives(where: Space, candidate: Candidate) -> Mapping[str, float]:
    return {"score": quality(where, candidate), "macs": float(where.macs(candidate))}


def told(one: GeneticTuner, count: int) -> list[Candidate]:
    found: list[Candidate] = []
    while len(found) < count:
        asked = one.ask(min(4, count - len(found)))
        if not asked:
            break
        for candidate in asked:
            one.tell(candidate, objectives(one.space, candidate))
        found += asked
    return found


@pytest.mark.parametrize("front", [False, True])
@pytest.mark.parametrize("kinds", [0, 3])
def test_contract(front: bool, kinds: int) -> None:
    where = chain_space(weights=WEIGHTS, kinds=kinds)
    names = ("score", "macs") if front else ("score",)
    found = assert_tuner(
        lambda seed: tuner(where, seed, population=8, objectives=names), lambda one: objectives(where, one), chunks=(3, 8, 100)
    )
    assert len(set(found)) == len(found) == 40, "a candidate came twice"
    assert front or found[: 1 if kinds else 2] == list(dict.fromkeys(where.starts))


def test_the_order_of_the_answers_changes_nothing() -> None:
    where = chain_space(weights=WEIGHTS)
    forth, back = tuner(where, population=8), tuner(where, population=8)
    for _ in range(4):
        asked = forth.ask(8)
        assert back.ask(5) + back.ask(5) == asked
        for candidate in asked:
            forth.tell(candidate, objectives(where, candidate))
        for candidate in reversed(asked):
            back.tell(candidate, objectives(where, candidate))


def test_a_state_in_the_middle_of_a_generation_whatever_was_told() -> None:
    where = chain_space(weights=WEIGHTS)
    first, second = tuner(where, population=8), tuner(where, 5, population=8)
    asked = first.ask(6)
    for candidate in (asked[4], asked[1]):
        first.tell(candidate, objectives(where, candidate))
    second.restore(json.loads(json.dumps(first.state())))
    again = second.ask(6)
    assert again == [asked[0], asked[2], asked[3], asked[5], *first.ask(6)]
    for one, candidates in ((first, list(again)), (second, again)):
        for candidate in candidates:
            one.tell(candidate, objectives(where, candidate))
    assert first.ask(8) == second.ask(8)


@pytest.mark.parametrize("kinds", [0, 3])
def test_it_finds_the_optimum_or_nearly(kinds: int) -> None:
    where = chain_space(widths=(10, 14, 12), weights=WEIGHTS, kinds=kinds)
    optimum = max(quality(where, one) for one in every_candidate(where))
    start = max(quality(where, one) for one in where.starts)
    assert optimum - start > 0.01
    gaps = sorted(optimum - max(quality(where, one) for one in told(tuner(where, seed), 120)) for seed in range(3))
    assert gaps[1] <= 0.1 * (optimum - start), gaps
    assert gaps[2] <= 0.3 * (optimum - start), gaps


def test_it_starts_without_the_allocations_when_told_so() -> None:
    where = chain_space(weights=WEIGHTS)
    assert told(tuner(where, population=8), 2) == list(where.starts)
    found = told(tuner(where, from_allocations=False, population=8), 8)
    assert found[0] not in where.starts and found[:2] != list(where.starts)


def test_the_best_survive() -> None:
    where = chain_space(weights=WEIGHTS)
    one = tuner(where, population=6)
    found = told(one, 60)
    one.ask()  # chooses the survivors of the tenth generation
    survivors = [value for _, (value,) in one.state()["survivors"]]
    assert survivors == sorted((quality(where, candidate) for candidate in found), reverse=True)[:6]


def test_the_front() -> None:
    where = chain_space(widths=(8, 10, 8), share=0.8, weights=WEIGHTS)
    whole = {one: (quality(where, one), where.macs(one)) for one in every_candidate(where)}
    found = told(tuner(where, objectives=("score", "macs"), population=24), 360)
    assert all(where.macs(one) <= where.budget for one in found)
    levels = [0.15, 0.3, 0.45, 0.6, 0.75]
    full = where.budget / 0.8
    gaps = []
    for level in levels:
        best = max(score for score, macs in whole.values() if macs <= level * full)
        reached = max(whole[one][0] for one in found if whole[one][1] <= level * full)
        worst = min(score for score, macs in whole.values() if macs <= level * full)
        gaps.append((best - reached) / (best - worst))
    assert max(gaps) <= 0.03, gaps
    spread = [where.macs(one) / full for one in found[-24:]]
    assert min(spread) < 0.3 and max(spread) > 0.6, "the last generation covers the front"


def test_an_exhausted_space_ends() -> None:
    where = chain_space(widths=(3, 3), share=0.5)
    found = told(tuner(where, population=4), 100)
    assert 2 <= len(found) < 9 and len(set(found)) == len(found)


def test_an_objective_that_is_not_told_is_refused() -> None:
    one = tuner(chain_space(), objectives=("score", "latency"))
    with pytest.raises(SettingsError, match="gives no `latency`; it gives score, macs"):
        one.tell(one.ask()[0], {"score": 1.0, "macs": 2.0})
    with pytest.raises(ValidationError, match="begins with `score`"):
        GeneticSettings(objectives=("macs",))
