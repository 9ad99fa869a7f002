"""Allocation against brute force on small spaces, its budget, its speed on large ones, and repair."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from amc_plugins.compression import Candidate, Variable
from amc_plugins.core import allocation
from amc_plugins.core.allocation import allocate, repair, spend
from amc_plugins.core.errors import BudgetError

Macs = Callable[[Mapping[str, int]], int]


def variables(count: int, most: int, rng: np.random.Generator, curves: bool = True) -> list[Variable]:
    made = []
    for index in range(count):
        full = int(rng.integers(most // 2, most + 1))
        choices = tuple(range(1, full + 1))
        errors = rng.uniform(0.3, 3) * (1 - np.array(choices) / full) ** rng.uniform(1.2, 3)
        made.append(
            Variable(f"v{index}", (f"l{index}",), choices, full, "channels", tuple(errors.tolist()) if curves else None)
        )
    return made


def chain(count: int, most: int, seed: int) -> tuple[list[Variable], Macs]:
    """MACs of a chain of convolutions: products of neighbouring counts."""
    rng = np.random.default_rng(seed)
    made = variables(count, most, rng)
    area = [int(rng.integers(1, 9)) ** 2 * 9 for _ in range(count + 1)]

    def macs(kept: Mapping[str, int]) -> int:
        inner = sum(area[i + 1] * kept[f"v{i}"] * kept[f"v{i + 1}"] for i in range(count - 1))
        return area[0] * 3 * kept["v0"] + inner + area[count] * kept[f"v{count - 1}"] * 10

    return made, macs


def separable(count: int, most: int, seed: int) -> tuple[list[Variable], Macs]:
    rng = np.random.default_rng(seed)
    made = variables(count, most, rng)
    price = [int(rng.integers(50, 5000)) for _ in made]
    return made, lambda kept: 12345 + sum(price[i] * kept[f"v{i}"] for i in range(count))


def stages(seed: int, most: int = 9) -> tuple[list[Variable], Macs]:
    """Two residual stages (v0, v1) with inner widths: a coupled group that meets itself, and a triangle of groups."""
    made, _ = chain(4, most, seed)

    def macs(kept: Mapping[str, int]) -> int:
        a, b, c, d = (kept[f"v{i}"] for i in range(4))
        return 90 * a + 36 * a * a + 72 * a * c + 20 * a * b + 18 * (a * d + d * b) + 50 * b

    return made, macs


def full_macs(made: list[Variable], macs: Macs) -> int:
    return macs({variable.name: variable.full for variable in made})


def total_error(made: list[Variable], candidate: Mapping[str, int]) -> float:
    return sum(variable.error(candidate[variable.name]) for variable in made)


def brute(made: list[Variable], macs: Macs, budget: float, window: bool = True) -> float:
    """The least error of all candidates within 1 % of the budget, or of all within it when there is none (or no `window`)."""
    grid = np.meshgrid(*(np.array(variable.choices) for variable in made), indexing="ij", sparse=True)
    costs = macs({variable.name: axis for variable, axis in zip(made, grid, strict=True)})  # type: ignore[misc]
    errors = sum(np.array(variable.errors)[axis - variable.choices[0]] for variable, axis in zip(made, grid, strict=True))
    fits = costs <= budget
    near = fits & (costs >= budget - 0.01 * full_macs(made, macs))
    return float(np.where(near if window and near.any() else fits, errors, np.inf).min())


def shares(variable: Variable, ratio: float) -> int:
    return max(1, math.ceil((1 - ratio) * variable.full - 1e-9))


@pytest.fixture
def as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small spaces through the methods for large ones, so that brute force can judge them."""
    monkeypatch.setattr(allocation, "_SMALL", 0)


@pytest.mark.parametrize("seed", range(8))
def test_small_spaces_are_solved_exactly(seed: int) -> None:
    for made, macs in (chain(4, 10, seed), stages(seed), separable(4, 10, seed)):
        budget = np.random.default_rng(seed).uniform(0.25, 0.9) * full_macs(made, macs)
        found = allocate(made, macs, budget)
        assert macs(found) <= budget
        assert total_error(made, found) == pytest.approx(brute(made, macs, budget), abs=1e-12)


@pytest.mark.usefixtures("as_if_large")
@pytest.mark.parametrize("seed", range(12))
def test_separable_costs_are_solved_exactly(seed: int) -> None:
    made, macs = separable(4, 24, seed)
    budget = np.random.default_rng(seed).uniform(0.25, 0.9) * full_macs(made, macs)
    found = allocate(made, macs, budget)
    assert macs(found) <= budget
    near, unlimited = brute(made, macs, budget), brute(made, macs, budget, window=False)
    if near == unlimited:
        assert total_error(made, found) == pytest.approx(near, abs=1e-12)
    else:  # the last percent is closed by an exchange, which is no exact search
        assert total_error(made, found) >= unlimited


@pytest.mark.usefixtures("as_if_large")
@pytest.mark.parametrize("most", [20, 28])
def test_coupled_costs_come_close_to_the_optimum(most: int) -> None:
    ratios = []
    for seed in range(16):
        made, macs = chain(4, most, seed) if seed % 2 else stages(seed, most)
        budget = np.random.default_rng(seed).uniform(0.25, 0.9) * full_macs(made, macs)
        found = allocate(made, macs, budget)
        assert macs(found) <= budget
        ratios.append(total_error(made, found) / brute(made, macs, budget))
    assert np.median(ratios) <= 1 + 1e-9
    assert np.mean(ratios) <= 1.03


def test_a_function_of_three_variables_still_fits_the_budget() -> None:
    made, _ = chain(3, 9, 3)

    def macs(kept: Mapping[str, int]) -> int:
        return 5 * kept["v0"] * kept["v1"] * kept["v2"] + 10 * kept["v0"]

    for share in (0.2, 0.5, 0.8):
        found = allocate(made, macs, share * full_macs(made, macs))
        assert macs(found) <= share * full_macs(made, macs)
        assert total_error(made, found) <= 1.3 * brute(made, macs, share * full_macs(made, macs))


def test_unordered_choices_with_a_table_of_costs() -> None:
    """Schemes: neither errors nor MACs are monotone in the value."""
    rng = np.random.default_rng(0)
    made, price = [], []
    for index in range(4):
        errors = [*rng.uniform(0.05, 1, 5).tolist(), 0.0]
        made.append(Variable(f"v{index}", (f"l{index}",), tuple(range(6)), 5, "scheme", tuple(errors)))
        price.append(np.array([*rng.integers(10, 900, 5).tolist(), 1000]))

    def macs(kept: Mapping[str, int]) -> int:
        return sum(price[i][kept[f"v{i}"]] for i in range(4))  # type: ignore[return-value]

    for share in (0.4, 0.6):
        found = allocate(made, macs, share * 4000)
        assert macs(found) <= share * 4000
        assert total_error(made, found) == pytest.approx(brute(made, macs, share * 4000), abs=1e-12)


def test_fifty_variables_with_sixty_four_choices_take_about_a_second() -> None:
    for build in (chain, separable):
        made, macs = build(50, 64, 5)
        budget = 0.5 * full_macs(made, macs)
        started = time.process_time()
        found = allocate(made, macs, budget)
        assert time.process_time() - started < 5  # 0.3 s on an idle machine
        assert 0 <= budget - macs(found) <= 0.001 * full_macs(made, macs)
        uniform = spend(made, macs, budget, shares)
        assert total_error(made, found) < 0.6 * total_error(made, uniform)
        assert allocate(made, macs, budget) == found


def test_the_budget_is_used_up() -> None:
    made, macs = chain(6, 24, 1)
    for share in (0.15, 0.3, 0.5, 0.7, 0.95):
        budget = share * full_macs(made, macs)
        nine = Candidate({variable.name: 9 for variable in made})
        assert 0 <= budget - macs(allocate(made, macs, budget)) <= 0.01 * full_macs(made, macs)
        for found in (spend(made, macs, budget, shares), repair(made, macs, nine, budget)):
            assert 0 <= budget - macs(found) <= 0.03 * full_macs(made, macs)


def test_out_of_reach_is_refused_with_the_range() -> None:
    made, macs = chain(3, 10, 0)
    least = macs({variable.name: 1 for variable in made})
    for call in (allocate, lambda *given: spend(*given, shares), lambda a, b, c: repair(a, b, {v.name: v.full for v in a}, c)):
        with pytest.raises(BudgetError, match=f"{least:,} to {full_macs(made, macs):,}"):
            call(made, macs, 0.9 * least)


def test_enough_budget_changes_nothing() -> None:
    made, macs = chain(3, 10, 0)
    full = {variable.name: variable.full for variable in made}
    assert dict(allocate(made, macs, full_macs(made, macs))) == full
    assert dict(spend(made, macs, full_macs(made, macs), shares)) == full


def test_without_error_curves_all_move_together() -> None:
    rng = np.random.default_rng(2)
    made = variables(5, 40, rng, curves=False)
    price = [100, 200, 300, 400, 500]

    def macs(kept: Mapping[str, int]) -> int:
        return sum(price[i] * kept[f"v{i}"] for i in range(5))

    found = allocate(made, macs, 0.5 * full_macs(made, macs))
    left = [found[variable.name] / variable.full for variable in made]
    assert max(left) - min(left) < 0.08
    assert macs(found) <= 0.5 * full_macs(made, macs)


def test_repair_keeps_proportions_and_is_idempotent() -> None:
    made, macs = chain(6, 40, 4)
    rng = np.random.default_rng(0)
    for share in (0.3, 0.6):
        budget = share * full_macs(made, macs)
        for _ in range(10):
            start = Candidate({variable.name: int(rng.choice(variable.choices)) for variable in made})
            found = repair(made, macs, start, budget)
            assert macs(found) <= budget
            assert repair(made, macs, found, budget) == found
            steps = [variable.choices.index(found[variable.name]) + 1 for variable in made]
            for variable, step in zip(made, steps, strict=True):  # nothing more fits
                if step < len(variable.choices):
                    assert macs({**found, variable.name: variable.choices[step]}) > budget
            over = macs(start) > budget
            moved = [found[v.name] - start[v.name] for v in made]
            assert all(step <= 1 for step in moved) if over else all(step >= 0 for step in moved)


def test_spend_gives_one_ratio_up_to_rounding() -> None:
    made, macs = chain(5, 60, 7)
    found = spend(made, macs, 0.4 * full_macs(made, macs), shares)
    left = np.array([found[variable.name] / variable.full for variable in made])
    width = max(1 / variable.full for variable in made)
    assert left.max() - left.min() <= 2 * width
