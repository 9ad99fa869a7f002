"""The conformance check of tuners, and a small space whose optimum can be enumerated."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from amc_plugins.compression import Candidate, Variable
from amc_plugins.core.allocation import allocate, repair
from amc_plugins.tuning import Space, Tuner

__all__ = ["assert_tuner", "chain_space", "every_candidate"]

Score = Callable[[Candidate], Mapping[str, float]]


def chain_space(
    widths: Sequence[int] = (12, 20, 16), share: float = 0.5, *, kinds: int = 0, weights: Sequence[float] | None = None
) -> Space:
    """The widths of a chain of 3 x 3 convolutions of 3 input channels, to be brought to `share` of their multiply-adds.

    Args:
        widths: channels; variable `v0`, `v1`, ... keeps 1 to all of them.
        share: of the full chain's MACs that candidates may have.
        kinds: one more, unordered variable `kind` with so many values; each multiplies the MACs differently.
        weights: of the variables' errors, which fall as (1 - kept / width)^2.
    """
    weights = [1.0] * len(widths) if weights is None else list(weights)
    variables = []
    for index, width in enumerate(widths):
        choices = tuple(range(1, width + 1))
        errors = tuple(weights[index] * (1.0 - choice / width) ** 2 for choice in choices)
        before = widths[index - 1] if index else 3
        features = {
            "index": float(index),
            "in_channels": float(before),
            "out_channels": float(width),
            "kernel": 3.0,
            "stride": 1.0,
            "height": 8.0,
            "width": 8.0,
            "macs": 9.0 * before * width,
        }
        variables.append(Variable(f"v{index}", (f"l{index}",), choices, width, "channels", errors, features))
    factors = [1.0 - 0.5 * kind / max(1, kinds - 1) for kind in range(kinds)]
    if kinds:
        variables.append(Variable("kind", ("all",), tuple(range(kinds)), 0, "scheme", ordered=False))

    def macs(kept: Mapping[str, int]) -> int:
        counts = [3, *(kept[f"v{index}"] for index in range(len(widths)))]
        whole = sum(9 * a * b for a, b in itertools.pairwise(counts))
        return round(whole * factors[kept["kind"]]) if kinds else whole

    full = Candidate({one.name: one.full for one in variables})
    budget = share * macs(full)
    allocation = repair(variables, macs, full, budget) if kinds else allocate(variables, macs, budget)
    uniform = next(
        repair(variables, macs, Candidate(kept), budget)
        for ratio in np.linspace(1.0, 0.0, 201)
        if macs(kept := {one.name: one.nearest_choice(ratio * one.full) if one.ordered else one.full for one in variables})
        <= budget
    )
    return Space(tuple(variables), macs, budget, (allocation, uniform))


def every_candidate(space: Space) -> Iterator[Candidate]:
    """All candidates of a small space that fit its budget."""
    names = [variable.name for variable in space.variables]
    for values in itertools.product(*(variable.choices for variable in space.variables)):
        candidate = Candidate(dict(zip(names, values, strict=True)))
        if space.macs(candidate) <= space.budget:
            yield candidate


def assert_tuner(
    make: Callable[[int], Tuner],
    score: Score,
    *,
    asks: int = 40,
    stops: Sequence[int] = (0, 1, 7, 23),
    chunks: Sequence[int] = (),
) -> list[Candidate]:
    """Check the contract of `amc_plugins.tuning.Tuner` on the tuner that `make(seed)` makes; returns its trajectory.

    Candidates are complete, admissible and within the budget; equal seeds give equal trajectories; a tuner restored from the
    JSON text of a state goes on as the first one does, whatever its own seed; what was asked and not told is asked again; the
    global random states of Python, numpy and torch are left alone.

    Args:
        make: a new tuner, always of the same settings and space.
        score: the objectives of a candidate; must be a function of it.
        asks: candidates to ask for, one at a time.
        stops: after so many of them the tuner is stopped and another one restored.
        chunks: sizes of asks that must not change the trajectory (for tuners whose results depend on no number of workers).

    Raises:
        AssertionError: names what was broken.
    """
    before = _global_states()
    expected = _trajectory(make(0), score, asks)
    assert _global_states() == before, "the tuner changes the global random state"
    space = make(0).space
    for candidate in expected:
        assert list(candidate) == [one.name for one in space.variables], f"{candidate} does not have the space's variables"
        assert all(candidate[one.name] in one.choices for one in space.variables), f"{candidate} is not admissible"
        assert space.macs(candidate) <= space.budget, f"{candidate} has {space.macs(candidate)} MACs of {space.budget}"
    assert _trajectory(make(0), score, asks) == expected, "equal seeds give different trajectories"
    for stop in stops:
        if stop > len(expected):
            continue
        first = make(0)
        _trajectory(first, score, stop)
        text = json.dumps(first.state())
        lost = first.ask(2)
        second = make(1)
        second.restore(json.loads(text))
        went_on = _trajectory(second, score, asks - stop)
        assert went_on == expected[stop:], f"a tuner restored after {stop} candidates goes on differently"
        third = make(2)
        third.restore(json.loads(json.dumps(first.state())))
        assert third.ask(len(lost)) == lost, f"what was asked after {stop} candidates and not told is not asked again"
    for size in chunks:
        assert _trajectory(make(0), score, asks, size) == expected, f"asking for {size} at once changes the trajectory"
    return expected


def _global_states() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return random.getstate(), name, np.asarray(keys).tolist(), *rest, torch.get_rng_state().tolist()


def _trajectory(tuner: Tuner, score: Score, asks: int, size: int = 1) -> list[Candidate]:
    found: list[Candidate] = []
    while len(found) < asks:
        asked = tuner.ask(min(size, asks - len(found)))
        if not asked:
            break
        for candidate in asked:
            tuner.tell(candidate, score(candidate))
        found += asked
    return found
