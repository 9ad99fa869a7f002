"""The tuner `ddpg`: the contract, exploration, rewards, and that learning beats exploring."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping

import pytest
from amc_ddpg._ddpg import DdpgTuner
from amc_ddpg.plugin import DdpgSettings

from amc_plugins.plugin import SettingsError
from amc_plugins.testing import assert_tuner, chain_space, every_candidate
from amc_plugins.tuning import Candidate, Space

WEIGHTS = (1.0, 8.0, 2.0)
SMALL = {"hidden": 32, "warm_up": 12, "batch": 16}


def tuner(where: Space, seed: int = 0, **settings: object) -> DdpgTuner:
    return DdpgTuner(DdpgSettings.model_validate(settings), where, seed)


def quality(where: Space, candidate: Candidate) -> float:
    errors = [where.variables[i].error(candidate[f"v{i}"]) for i in range(3)]
    return -sum(errors) - 4.0 * errors[0] * errors[2] - 2.0 * errors[1] * errors[2]


def objectives(where: Space, candidate: Candidate) -> Mapping[str, float]:
    return {"score": quality(where, candidate), "macs": float(where.macs(candidate))}


@pytest.mark.parametrize("more", [{}, {"from_allocations": False, "fit": "clip"}, {"reward": "error_log_macs", "ceiling": 0.0}])
def test_contract(more: dict[str, object]) -> None:
    where = chain_space(weights=WEIGHTS)
    found = assert_tuner(
        lambda seed: tuner(where, seed, **SMALL, **more), lambda one: objectives(where, one), stops=(0, 1, 7, 23), asks=30
    )
    assert len(set(found)) > 15
    if not more:
        assert found[:2] == list(where.starts)


def test_duplicates_and_strangers() -> None:
    """Two open episodes of one candidate are told one after the other; a candidate that nobody asked for is no episode."""
    where = chain_space((2, 2), 0.9)
    one = tuner(where, **SMALL, from_allocations=False)
    asked = one.ask(8)
    assert len(set(asked)) < 8
    one.tell(Candidate({"v0": 1, "v1": 1}), {"score": 0.0}) if Candidate({"v0": 1, "v1": 1}) not in asked else None
    for candidate in asked:
        one.tell(candidate, {"score": 0.0})
    assert one.state()["told"] == 8 and one.state()["waiting"] == []
    assert one.state()["agent"]["count"] == 16


def test_warm_up_is_uniform_and_noise_is_truncated_and_decays() -> None:
    where = chain_space((9, 9, 9), 1.0)
    one = tuner(where, warm_up=200, sigma=0.5, sigma_decay=0.9, hidden=16, from_allocations=False, fit="clip", updates=0)
    actions: list[float] = []
    for _ in range(200):
        (candidate,) = one.ask()
        actions += one.state()["waiting"][0][0]
        one.tell(candidate, {"score": 0.0})
    assert min(actions) < 0.01 and max(actions) > 0.99
    assert statistics.mean(actions) == pytest.approx(0.5, abs=0.04)
    assert statistics.pstdev(actions) == pytest.approx(12**-0.5, abs=0.02)
    spreads = []
    for _ in range(60):
        (candidate,) = one.ask()
        ((raw, _),) = one.state()["waiting"]
        spreads.append(statistics.pstdev(raw))
        assert all(0.0 <= action <= 1.0 for action in raw)
        one.tell(candidate, {"score": 0.0})
    means = [one._agent.act(state) for state in one._walk.again(raw).states[:3]]
    assert raw == pytest.approx(means, abs=0.01)  # 0.5 * 0.9 ** 59 = 0.001
    assert statistics.mean(spreads[:10]) > 3 * statistics.mean(spreads[-20:])


def test_it_starts_from_the_better_allocation() -> None:
    where = chain_space((9, 12, 9), 0.5, weights=WEIGHTS)
    one = tuner(where, updates=0)
    assert len(one.ask(5)) == 2  # where to go from the starts is not known yet
    for start, score in zip(where.starts, (0.1, 0.7), strict=True):
        one.tell(start, {"score": score})
    better = one._walk.again(one._walk.actions_of(where.starts[1]), fit="clip")
    policy = [one._agent.act(state) for state in better.states[:-1]]
    assert policy == pytest.approx(better.actions, abs=0.03)
    around = [one._walk.actions_of(candidate) for candidate in one.ask(60)]
    means = [statistics.mean(column) for column in zip(*around, strict=True)]
    assert means == pytest.approx(better.actions, abs=0.12)
    assert all(0.03 < statistics.pstdev(column) < 0.25 for column in zip(*around, strict=True))


def test_it_follows_the_best_episode() -> None:
    """The policy becomes the best episode's actions, exploration around it leaves most of them, and nothing comes twice."""
    where = chain_space((9, 12, 9, 10, 11, 12), 0.5)
    one = tuner(where, hidden=64, updates=0, around_best=1.0, explored=0.4, sigma=0.15)
    found: list[Candidate] = []
    for _ in range(25):
        (candidate,) = one.ask()
        found.append(candidate)
        one.tell(candidate, {"score": float(len(found) == 12)})
    assert len(set(found)) == 25
    best = one._walk.again(one._walk.actions_of(found[11]), fit="clip")
    assert [one._agent.act(state) for state in best.states[:-1]] == pytest.approx(best.actions, abs=0.05)
    near = [sum(abs(candidate[name] - found[11][name]) for name in candidate) for candidate in found[12:]]
    before = [sum(abs(candidate[name] - found[11][name]) for name in candidate) for candidate in found[2:11]]
    assert statistics.mean(near) < statistics.mean(before)


def test_updates_after_each_episode_past_the_warm_up() -> None:
    where = chain_space(weights=WEIGHTS)
    one = tuner(where, hidden=8, warm_up=5, batch=6, updates=None)
    counts = []
    update = one._agent.update
    calls = itertools.count()

    def counted() -> None:
        next(calls)
        update()

    one._agent.update = counted  # type: ignore[method-assign]
    for _ in range(8):
        (candidate,) = one.ask()
        one.tell(candidate, objectives(where, candidate))
        counts.append(int(repr(calls).split("(")[1].rstrip(")")))
    assert counts == [0, 0, 0, 0, 0, 3, 6, 9]  # three variables


def test_the_rewards_of_the_paper() -> None:
    where = chain_space()
    told = {"score": 0.9, "macs": 1e6}
    assert tuner(where).merit(told) == 0.9
    assert tuner(where, reward="error_log_macs").merit(told) == pytest.approx(-0.1 * math.log(1e6))
    with pytest.raises(SettingsError, match=r"above `ceiling` = 0\.5"):
        tuner(where, reward="error_log_macs", ceiling=0.5).merit(told)


def test_accuracy_guaranteed_search_removes_what_costs_nothing() -> None:
    """Errors only below half of each width: the best reward is at the halves, though no budget asks for it."""
    where = chain_space((12, 12, 12), 1.0)

    def scores(candidate: Candidate) -> Mapping[str, float]:
        lost = sum(max(0, 6 - candidate[f"v{i}"]) for i in range(3))
        return {"score": 0.9 - 0.1 * lost, "macs": float(where.macs(candidate))}

    one = tuner(where, reward="error_log_macs", warm_up=60, sigma_decay=0.98)
    found: list[Candidate] = []
    for _ in range(160):
        (candidate,) = one.ask()
        one.tell(candidate, scores(candidate))
        found.append(candidate)
    best = max(found, key=lambda candidate: one.merit(scores(candidate)))
    assert scores(best)["score"] == pytest.approx(0.9)
    assert where.macs(best) < 0.45 * where.budget, best


def test_learning_beats_exploring() -> None:
    where = chain_space((8, 12, 8, 10), 0.4, weights=(1.0, 8.0, 2.0, 0.5))

    def score(candidate: Candidate) -> float:
        errors = [where.variables[i].error(candidate[f"v{i}"]) for i in range(4)]
        return -sum(errors) - 4.0 * errors[0] * errors[2] - 2.0 * errors[1] * errors[3]

    late, early = [], []
    for seed in range(3):
        one = tuner(where, seed, from_allocations=False, warm_up=60, sigma_decay=0.93, hidden=128)
        values = []
        for _ in range(150):
            (candidate,) = one.ask()
            values.append(score(candidate))
            one.tell(candidate, {"score": values[-1]})
        early.append(statistics.mean(values[:60]))
        late.append(statistics.mean(values[-20:]))
    optimum = max(map(score, every_candidate(where)))
    gained = [(b - a) / (optimum - a) for a, b in zip(early, late, strict=True)]
    assert statistics.median(gained) > 0.5, (early, late, optimum)
