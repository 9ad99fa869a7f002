"""The walk: what the agent sees, and that no action breaks the budget."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import pytest
from amc_ddpg._walk import Fit, Walk
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_plugins.plugin import BudgetError
from amc_plugins.testing import chain_space
from amc_plugins.tuning import Candidate, Space, Variable


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.floats(0.2, 1.0),
    st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5),
    st.sampled_from(["clip", "raise", "scale"]),
)
def test_no_walk_breaks_the_budget(widths: list[int], share: float, actions: list[float], fit: Fit) -> None:
    smallest = 9 * (3 + len(widths) - 1)
    full = sum(9 * a * b for a, b in itertools.pairwise([3, *widths]))
    where = replace(chain_space(widths, 1.0), budget=max(share * full, smallest))
    walk = Walk(where, fit=fit)
    walked = walk.again(actions[: len(widths)])
    assert where.macs(walked.candidate) <= where.budget
    assert len(walked.states) == len(widths) + 1
    assert all(len(state) == walk.width == 11 and min(state) >= 0.0 and max(state) <= 1.0 for state in walked.states)


def test_algorithm_1_by_hand() -> None:
    """Two widths 10 and 10 after 3 inputs: MACs are 9 (3 a + a b), 1170 whole. Budget 585: 3 a + a b <= 65."""
    where = chain_space((10, 10), 0.5)
    plain = Walk(where, fit="clip")
    # with b at its smallest, 4 a <= 65: any a fits; then b <= (65 - 3 a) / a
    assert plain.again([1.0, 1.0]).candidate == Candidate({"v0": 10, "v1": 3})
    assert plain.again([0.5, 1.0]).candidate == Candidate({"v0": 6, "v1": 7})  # half the way from 1 to 10, up: 5.5 -> 6
    assert plain.again([0.0, 0.0]).candidate == Candidate({"v0": 1, "v1": 1})
    # with b whole, 3 a + 10 a = 65 uses the budget up: a less than 5 never can
    greedy = Walk(where, fit="raise")
    assert greedy.again([0.0, 0.0]).candidate == Candidate({"v0": 5, "v1": 10})
    assert greedy.again([1.0, 0.0]).candidate == Candidate({"v0": 10, "v1": 3})
    assert greedy.again([0.6, 0.0]).candidate == Candidate({"v0": 7, "v1": 6})  # 5.4 of 9 steps, up


def test_scaled_walks_share_what_the_budget_takes() -> None:
    """Both widths wanted whole: clipped, the second pays alone; scaled, both do, and the walk is that of the result."""
    where = chain_space((10, 10), 0.5)
    assert Walk(where, fit="clip").again([1.0, 1.0]).candidate == Candidate({"v0": 10, "v1": 3})
    scaled = Walk(where, fit="scale").again([1.0, 1.0])
    assert scaled.candidate == where.repair(Candidate({"v0": 10, "v1": 10}))
    assert abs(scaled.candidate["v0"] - scaled.candidate["v1"]) <= 1
    assert Walk(where, fit="clip").again(scaled.actions).candidate == scaled.candidate


def test_the_state_by_hand() -> None:
    where = chain_space((10, 10), 0.5)
    walk = Walk(where, fit="clip")
    walked = walk.again([0.5, 1.0])
    total = 9 * 130
    own = (9 * 30, 9 * 100)
    # index, out, in, height, width, stride, kernel, MACs (scaled over the network, constant ones 0), reduced, rest, last action
    assert walked.states[0] == pytest.approx((0, 0, 0, 0, 0, 0, 0, 0, 0, own[1] / total, 1.0))
    first = 1 - (9 * (3 * 6 + 6 * 10)) / total
    assert walked.states[1] == pytest.approx((1, 0, 1, 0, 0, 0, 0, 1, first, 0.0, 5 / 9))
    last = 1 - where.macs(walked.candidate) / total
    assert walked.states[2] == pytest.approx((1, 0, 1, 0, 0, 0, 0, 1, last, 0.0, 6 / 9))


def test_the_walk_of_a_candidates_actions_leads_to_it() -> None:
    where = chain_space((12, 20, 16), 0.4, weights=(1.0, 8.0, 2.0))
    walk = Walk(where, fit="raise")
    for candidate in where.starts:
        assert walk.again(walk.actions_of(candidate), fit="clip").candidate == candidate


def test_unordered_choices_are_walked_by_cost() -> None:
    costs = {0: 30, 1: 10, 2: 20}
    kind = Variable("kind", ("a",), (0, 1, 2), 0, "scheme", ordered=False)

    def macs(kept: Mapping[str, int]) -> int:
        return costs[kept["kind"]]

    walk = Walk(Space((kind,), macs, 30.0), fit="clip")
    assert [walk.again([action]).candidate["kind"] for action in (0.0, 0.3, 0.5, 0.9)] == [1, 2, 2, 0]
    assert Walk(Space((kind,), macs, 25.0), fit="raise").again([0.0]).candidate["kind"] == 2


def test_variables_are_walked_in_running_order_and_candidates_keep_theirs() -> None:
    where = chain_space((4, 6))
    turned = replace(where, variables=where.variables[::-1])
    walk = Walk(turned, fit="raise")
    assert [one.name for one in walk.variables] == ["v0", "v1"]
    assert list(walk.again([0.5, 0.5]).candidate) == ["v1", "v0"]


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(BudgetError, match="cannot be met: the cheapest candidate costs 36"):
        Walk(replace(chain_space((10, 10)), budget=35.0), fit="raise")
