"""The tuners `uniform` and `allocation`: one candidate each, also across a restart."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from amc_baselines._single import AllocationTuner, UniformTuner

from amc_plugins.plugin import Settings, SettingsError
from amc_plugins.testing import assert_tuner, chain_space


@pytest.mark.parametrize(("kind", "place"), [(AllocationTuner, 0), (UniformTuner, 1)])
def test_it_asks_for_one_candidate_and_ends(kind: type[AllocationTuner | UniformTuner], place: int) -> None:
    where = chain_space(weights=(1.0, 8.0, 2.0))
    assert where.starts[0] != where.starts[1]
    found = assert_tuner(lambda seed: kind(Settings(), where, seed), lambda one: {"score": 0.0}, stops=(0, 1), chunks=(4,))
    assert found == [where.starts[place]]


def test_what_was_asked_and_not_told_is_asked_again() -> None:
    where = chain_space()
    one, other = AllocationTuner(Settings(), where, 0), AllocationTuner(Settings(), where, 0)
    assert one.ask(3) == [where.starts[0]] and one.ask() == []
    other.restore(json.loads(json.dumps(one.state())))
    assert other.ask() == [where.starts[0]]


def test_a_space_without_the_start_is_refused() -> None:
    where = replace(chain_space(), starts=())
    with pytest.raises(SettingsError, match="no candidate `uniform`"):
        UniformTuner(Settings(), where, 0)
