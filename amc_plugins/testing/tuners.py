"""Checks of tuners, and a small space whose optimum can be enumerated."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial

import numpy as np

from amc_plugins.compression import Candidate, Variable
from amc_plugins.core.allocation import allocate, repair
from amc_plugins.core.errors import BudgetError
from amc_plugins.testing.checks import Subject, check
from amc_plugins.testing.unchanged import steady_random_states
from amc_plugins.tuning import Space, Tuner

__all__ = ["Under", "assert_tuner", "chain_space", "every_candidate"]

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
    with steady_random_states("the tuner"):
        expected = _trajectory(make(0), score, asks)
    _assert_admissible(expected, make(0).space)
    assert _trajectory(make(0), score, asks) == expected, "equal seeds give different trajectories"
    for stop in stops:
        if stop <= len(expected):
            _assert_goes_on(make, score, expected, stop, asks)
            _assert_asked_again(make, score, stop)
    for size in chunks:
        assert _trajectory(make(0), score, asks, size) == expected, f"asking for {size} at once changes the trajectory"
    return expected


def _assert_admissible(candidates: Sequence[Candidate], space: Space) -> None:
    for candidate in candidates:
        assert list(candidate) == [one.name for one in space.variables], f"{candidate} does not have the space's variables"
        assert all(candidate[one.name] in one.choices for one in space.variables), f"{candidate} is not admissible"
        assert space.macs(candidate) <= space.budget, f"{candidate} has {space.macs(candidate)} MACs of {space.budget}"


def _assert_goes_on(make: Callable[[int], Tuner], score: Score, expected: list[Candidate], stop: int, asks: int) -> None:
    first = make(0)
    _trajectory(first, score, stop)
    text = json.dumps(first.state())
    first.ask(2)
    second = make(1)
    second.restore(json.loads(text))
    went_on = _trajectory(second, score, asks - stop)
    assert went_on == expected[stop:], f"a tuner restored after {stop} candidates goes on differently"


def _assert_asked_again(make: Callable[[int], Tuner], score: Score, stop: int) -> None:
    first = make(0)
    _trajectory(first, score, stop)
    lost = first.ask(2)
    second = make(2)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.ask(len(lost)) == lost, f"what was asked after {stop} candidates and not told is not asked again"


def _trajectory(tuner: Tuner, score: Score, asks: int, size: int = 1) -> list[Candidate]:
    found: list[Candidate] = []
    while len(found) < asks:
        asked = tuner.ask(min(size, asks - len(found)))
        if not asked:
            break
        assert len(asked) <= size, f"asked for {size} candidates, it gives {len(asked)}"
        for candidate in asked:
            tuner.tell(candidate, score(candidate))
        found += asked
    return found


# --- the checks of a plugin -----------------------------------------------------------------------------------------------

ASKS = 30


class Under(Subject):
    """A tuner, on the space of a chain of convolutions, also with a variable that has no order."""

    def preferred(self) -> dict[str, object]:
        return {"population": 8, "warmup": 6}

    @property
    def spaces(self) -> tuple[Space, ...]:
        return _spaces()

    def tuner(self, space: Space, seed: int) -> Tuner:
        made: Tuner = self.target(self.settings, space, seed)
        return made

    def each(self) -> Iterator[tuple[Callable[[int], Tuner], Score]]:
        """Per space: what makes a tuner of a seed, and the objectives of a candidate."""
        for space in self.spaces:
            yield partial(self.tuner, space), partial(_objectives, space)


@cache
def _spaces() -> tuple[Space, ...]:
    return chain_space(weights=(1.0, 8.0, 2.0)), chain_space(widths=(12, 20), kinds=3)


def _objectives(space: Space, candidate: Mapping[str, int]) -> dict[str, float]:
    """A smooth score with an optimum that the allocations miss, and the costs of a search."""
    errors = [variable.error(candidate[variable.name]) for variable in space.variables]
    macs = float(space.macs(candidate))
    return {
        "score": -sum(errors) - 4.0 * errors[0] * errors[1] - 0.1 * candidate.get("kind", 0),
        "macs": macs,
        "parameters": macs,
    }


@check("tuners")
def check_candidates_are_admissible(subject: Under) -> None:
    """Every candidate has all variables, with values among their choices, and fits the budget; asking for n gives at most n."""
    for make, score in subject.each():
        for size in (1, 5):
            found = _trajectory(make(0), score, ASKS, size)
            assert found, "the first `ask` gives no candidate"
            _assert_admissible(found, make(0).space)


@check("tuners")
def check_seeds_are_respected(subject: Under) -> None:
    """Equal seeds and equal answers give equal trajectories."""
    for make, score in subject.each():
        first, second = (_trajectory(make(3), score, ASKS) for _ in range(2))
        assert first == second, "two tuners with one seed and the same answers propose different candidates"


@check("tuners")
def check_random_states_are_left_alone(subject: Under) -> None:
    """The global random states of Python, numpy and torch are as they were."""
    for make, score in subject.each():
        with steady_random_states("the tuner"):
            _trajectory(make(0), score, ASKS)


@check("tuners")
def check_inputs_are_left_alone(subject: Under) -> None:
    """Neither the objectives that it is told nor the candidates that it gave are changed afterwards."""
    for make, score in subject.each():
        tuner = make(0)
        given = [(one, dict(one)) for one in _trajectory(tuner, score, 5)]
        for candidate in tuner.ask(3):
            objectives = dict(score(candidate))
            before = dict(objectives)
            tuner.tell(candidate, objectives)
            assert objectives == before, "`tell` changes the objectives"
            given.append((candidate, dict(candidate)))
        _trajectory(tuner, score, 10)
        assert all(dict(one) == values for one, values in given), "candidates that were given out change later"


@check("tuners")
def check_restored_goes_on(subject: Under) -> None:
    """A tuner of another seed that restores a state, by way of JSON, goes on with exactly the first one's candidates."""
    for make, score in subject.each():
        expected = _trajectory(make(0), score, ASKS)
        for stop in (0, 1, 7, 23):
            if stop <= len(expected):
                _assert_goes_on(make, score, expected, stop, ASKS)


@check("tuners")
def check_what_was_not_told_is_asked_again(subject: Under) -> None:
    """Candidates that were asked for and not told when the search died come again after `restore`."""
    for make, score in subject.each():
        length = len(_trajectory(make(0), score, ASKS))
        for stop in (0, 1, 7, 23):
            if stop <= length:
                _assert_asked_again(make, score, stop)


@check("tuners")
def check_the_smallest_budget(subject: Under) -> None:
    """With a budget that only the smallest candidate meets, that one is proposed, and then the search ends or repeats it."""
    space = chain_space(widths=(4, 3))
    smallest = Candidate({one.name: one.choices[0] for one in space.variables})
    tight = Space(space.variables, space.macs, space.macs(smallest), (smallest, smallest))
    found = _trajectory(subject.tuner(tight, 0), lambda one: _objectives(tight, one), 10)
    assert found and set(found) == {smallest}, f"only {smallest} fits the budget, proposed were {set(found)}"


@check("tuners")
def check_nothing_to_tune_is_refused(subject: Under) -> None:
    """A space without variables is a `BudgetError` at once."""
    try:
        subject.tuner(Space((), lambda _: 0, 0.0), 0)
    except BudgetError:
        return
    except Exception as error:
        raise AssertionError(f"no variables raise {type(error).__name__} ({error}) instead of BudgetError") from error
    raise AssertionError("a space without variables is accepted")
