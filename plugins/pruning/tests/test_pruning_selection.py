"""Selection rules against samples, refits and the enumeration of all subsets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from amc_pruning import _elimination
from amc_pruning._elimination import Elimination, eliminate
from amc_pruning._exchange import Exchange, exchanged
from amc_pruning._problems import Problem
from amc_pruning._selection import lasso_gram, lasso_order
from sklearn.linear_model import lars_path
from torch import Tensor

C, Q, N_OUT = 12, 3, 6


def samples(seed: int, count: int = 3000) -> tuple[Tensor, Tensor, Tensor]:
    """x (count, C * Q) with correlated channels after a ReLU, weights, and y = x W^T, all centred."""
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(count, C, Q, generator=rng, dtype=torch.float64)
    mixing = torch.randn(C, C, generator=rng, dtype=torch.float64) / C**0.5 + 0.4 * torch.eye(C)
    x = torch.einsum("nct,cd->ndt", latent, mixing).relu().reshape(count, -1)
    scale = torch.rand(C, generator=rng, dtype=torch.float64).repeat_interleave(Q) + 0.2
    weight = torch.randn(N_OUT, C * Q, generator=rng, dtype=torch.float64) * scale
    x = x - x.mean(0)
    return x, weight, x @ weight.T


def problem(x: Tensor, weight: Tensor, y: Tensor, metric: Tensor | None = None) -> Problem:
    metric = torch.ones(len(weight), dtype=torch.float64) if metric is None else metric
    columns = torch.arange(C).repeat_interleave(Q)
    total = float((y * metric).square().sum() / len(x))
    return Problem(x.T @ x / len(x), x.T @ y / len(x), weight, metric, total, columns, 0.0)


def error_of(x: Tensor, y: Tensor, kept: list[int]) -> float:
    columns = [channel * Q + tap for channel in sorted(kept) for tap in range(Q)]
    fit = torch.linalg.lstsq(x[:, columns], y).solution
    return float((y - x[:, columns] @ fit).square().sum() / len(x))


def test_lasso_gram_equals_the_products_of_channel_contributions() -> None:
    x, weight, y = samples(0)
    metric = torch.linspace(0.5, 2, N_OUT, dtype=torch.float64)
    contributions = torch.stack([(x[:, i * Q : (i + 1) * Q] @ weight[:, i * Q : (i + 1) * Q].T) * metric for i in range(C)])
    expected = torch.einsum("inr,jnr->ij", contributions, contributions) / len(x)
    gram, target = lasso_gram([problem(x, weight, y, metric=metric)], torch.arange(C))
    torch.testing.assert_close(gram, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(target, (contributions * (y * metric)).sum((1, 2)) / len(x), rtol=1e-12, atol=1e-12)


def test_the_lasso_path_is_that_of_the_samples_with_the_same_penalties() -> None:
    x, weight, y = samples(1, count=500)
    stacked = torch.stack([(x[:, i * Q : (i + 1) * Q] @ weight[:, i * Q : (i + 1) * Q].T).flatten() for i in range(C)], 1)
    alphas, _, path = lars_path(stacked.numpy(), y.flatten().numpy(), method="lasso", max_iter=200)
    gram, target = lasso_gram([problem(x, weight, y)], torch.arange(C))
    first = (path != 0).argmax(1)
    expected = np.argsort(first, kind="stable").tolist()
    assert lasso_order(gram, target, outputs=N_OUT) == expected
    # a path that ends at the penalty of a knot has activated what the samples' path has there
    knot = 5
    early = lasso_order(gram, target, outputs=N_OUT, alpha_min=float(alphas[knot]) * (1 + 1e-9))
    assert early[:knot] == expected[:knot]


def test_lasso_puts_dead_channels_last() -> None:
    x, weight, _ = samples(2)
    x[:, 3 * Q : 4 * Q] = 0.0
    gram, target = lasso_gram([problem(x, weight, x @ weight.T)], torch.arange(C))
    order = lasso_order(gram, target, outputs=N_OUT)
    assert order[-1] == 3
    assert sorted(order) == list(range(C))


def error_from_moments(one: Problem, kept: Sequence[int]) -> float:
    columns = (torch.tensor(sorted(kept))[:, None] * Q + torch.arange(Q)).flatten()
    cross = one.cross[columns]
    return one.total - float((cross * torch.linalg.solve(one.gram[columns][:, columns], cross)).sum())


@pytest.mark.parametrize("gone", [[], [2], [2, 7, 0]])
def test_the_cost_of_a_block_equals_the_refit_without_it(gone: list[int]) -> None:
    x, weight, y = samples(3)
    state = Elimination(problem(x, weight, y), torch.arange(C), 1.0)
    for channel in gone:
        state.remove(channel)
    costs = state.costs()
    left = [channel for channel in range(C) if channel not in gone]
    base = error_of(x, y, left)
    for channel in left:
        expected = error_of(x, y, [one for one in left if one != channel]) - base
        assert float(costs[channel]) == pytest.approx(expected, rel=1e-8)


def test_updates_held_back_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, y = samples(4)
    orders = []
    for pending in (1, 7, 10_000):
        monkeypatch.setattr(_elimination, "_PENDING", pending)
        orders.append(eliminate([(problem(x, weight, y), 1.0)], torch.arange(C), 1))
    assert orders[0] == orders[1] == orders[2]
    monkeypatch.setattr(_elimination, "_PENDING", 7)
    state, alive = Elimination(problem(x, weight, y), torch.arange(C), 1.0), torch.ones(C, dtype=torch.bool)
    for channel in orders[0][:6]:
        alive[channel] = False
        state.remove(channel)
        state.settle(alive)
    left = alive.nonzero().flatten().tolist()
    base = error_of(x, y, left)
    for channel in left:
        expected = error_of(x, y, [one for one in left if one != channel]) - base
        assert float(state.costs()[channel]) == pytest.approx(expected, rel=1e-8)


def test_elimination_is_greedy_and_comes_close_to_the_best_of_all_subsets() -> None:
    """All subsets of twelve channels, several data sets: the nested sets of each rule against the optimum."""
    excess: dict[str, list[float]] = {"block": [], "lasso": [], "random": []}
    for seed in range(4):
        x, weight, y = samples(10 + seed, count=1500)
        one = problem(x, weight, y)
        gone = eliminate([(one, 1.0)], torch.arange(C), 1)
        gram, target = lasso_gram([one], torch.arange(C))
        by_lasso = lasso_order(gram, target, outputs=N_OUT)
        at_random = torch.randperm(C, generator=torch.Generator().manual_seed(seed)).tolist()
        for count in (3, 5, 7):
            best = min(error_from_moments(one, kept) for kept in itertools.combinations(range(C), count))
            block = [channel for channel in range(C) if channel not in gone[: C - count]]
            for rule, kept in (("block", block), ("lasso", by_lasso[:count]), ("random", at_random[:count])):
                excess[rule].append(error_from_moments(one, kept) / best)
    mean = {rule: float(np.mean(values)) for rule, values in excess.items()}
    assert min(excess["block"]) >= 1 - 1e-9
    assert mean["block"] < 1.05
    assert mean["block"] < mean["lasso"] < mean["random"]


def test_several_consumers_are_weighed_by_their_spread() -> None:
    """A consumer whose responses are a thousand times larger does not drown the other."""
    x, weight, y = samples(5)
    other = weight.flip(0)[:, torch.randperm(C * Q, generator=torch.Generator().manual_seed(9))]
    pair = [problem(x, weight, y), problem(x, other, x @ other.T)]
    loud = [problem(x, 1000 * weight, 1000 * y), pair[1]]
    orders = [eliminate([(one, 1 / one.total) for one in problems], torch.arange(C), 1) for problems in (pair, loud)]
    assert orders[0] == orders[1]
    assert orders[0] != eliminate([(pair[0], 1.0)], torch.arange(C), 1)


def test_columns_of_other_channels_stay_and_uneven_channels_are_padded() -> None:
    x, weight, y = samples(6)
    one = problem(x, weight, y)
    # channels 0..4 of the group are the odd ones; channel 1 has only two columns; even ones belong to others
    one.columns = torch.tensor([(i if i % 2 else 100 + i) for i in range(C) for _ in range(Q)])
    one.columns[1 * Q] = 500
    ids = torch.tensor([1, 3, 5, 7, 9])
    assert (one.columns_of(ids)[0] == torch.tensor([4, 5, -1])).all()
    state = Elimination(one, ids, 1.0)

    for index, channel in enumerate(ids.tolist()):
        stays = (one.columns != channel).nonzero().flatten()
        fit = torch.linalg.lstsq(x[:, stays], y).solution
        expected = float((y - x[:, stays] @ fit).square().sum() / len(x))
        assert float(state.costs()[index]) == pytest.approx(expected, rel=1e-8)


def mask_of(kept: Sequence[int]) -> Tensor:
    mask = torch.zeros(C, dtype=torch.bool)
    mask[list(kept)] = True
    return mask


def test_what_a_channel_gains_or_costs_equals_the_refits_whatever_was_exchanged_before() -> None:
    x, weight, y = samples(7)
    one = problem(x, weight, y)
    state, kept = Exchange(one, torch.arange(C), mask_of([0, 2, 3, 5, 9]), 2.0), {0, 2, 3, 5, 9}
    for turned in (None, 5, 6):
        if turned is not None:
            state.turn(turned)
            kept ^= {turned}
        base, costs = error_of(x, y, sorted(kept)), state.costs()
        for channel in range(C):
            other = error_of(x, y, sorted(kept ^ {channel}))
            assert float(costs[channel]) == pytest.approx(2 * abs(other - base), rel=1e-6)
        for gone in kept:
            without = error_of(x, y, sorted(kept - {gone}))
            gains = state.gains_without(gone)
            for channel in set(range(C)) - kept:
                gained = without - error_of(x, y, sorted(kept - {gone} | {channel}))
                assert float(gains[channel]) == pytest.approx(2 * gained, rel=1e-6)


def test_exchanging_channels_ends_where_no_pair_gains_and_nearer_to_the_best_of_all_subsets() -> None:
    """From the sets of elimination, of LASSO and from random ones; every subset of twelve channels enumerated."""
    before: list[float] = []
    after: list[float] = []
    for seed in range(2):
        x, weight, y = samples(10 + seed, count=1500)
        one = problem(x, weight, y)
        gone = eliminate([(one, 1.0)], torch.arange(C), 1)
        gram, target = lasso_gram([one], torch.arange(C))
        by_lasso = lasso_order(gram, target, outputs=N_OUT)
        at_random = torch.randperm(C, generator=torch.Generator().manual_seed(seed)).tolist()
        for count in (3, 5, 7):
            best = min(error_from_moments(one, kept) for kept in itertools.combinations(range(C), count))
            block = [channel for channel in range(C) if channel not in gone[: C - count]]
            for start in (block, by_lasso[:count], at_random[:count]):
                polished = exchanged([(one, 1.0)], torch.arange(C), mask_of(start)).nonzero().flatten().tolist()
                found = error_from_moments(one, polished)
                assert len(polished) == count and found <= error_from_moments(one, start) * (1 + 1e-9)
                for old, new in itertools.product(polished, set(range(C)) - set(polished)):
                    assert (
                        error_from_moments(one, [new if one_ == old else one_ for one_ in polished]) > found - 1e-5 * one.total
                    )
                before.append(error_from_moments(one, start) / best)
                after.append(found / best)
    assert min(after) >= 1 - 1e-9
    assert float(np.mean(before)) > 1.05
    assert float(np.mean(after)) < 1.005
    assert sum(value < 1 + 1e-9 for value in after) > 0.8 * len(after)


def test_exchanging_weighs_several_consumers_and_leaves_columns_of_other_groups() -> None:
    x, weight, y = samples(6)
    one, two = problem(x, weight, y), problem(x, weight.flip(0).roll(3, 1), x @ weight.flip(0).roll(3, 1).T)
    for state in (one, two):
        state.columns = torch.tensor([(i if i % 2 else 100 + i) for i in range(C) for _ in range(Q)])
        state.columns[1 * Q] = 500  # channel 1 has only two columns
    ids, pair = torch.tensor([1, 3, 5, 7, 9]), [(one, 0.3), (two, 1.0)]

    def error(kept: Sequence[int]) -> float:
        total = 0.0
        for state, share in pair:
            stays = (~torch.isin(state.columns, torch.tensor([c for c in ids.tolist() if c not in kept]))).nonzero().flatten()
            total += share * (
                state.total
                - float((state.cross[stays] * torch.linalg.solve(state.gram[stays][:, stays], state.cross[stays])).sum())
            )
        return total

    for start in itertools.combinations(range(5), 2):
        kept = torch.zeros(5, dtype=torch.bool)
        kept[list(start)] = True
        found = ids[exchanged(pair, ids, kept)].tolist()
        assert error(found) == pytest.approx(min(error(one_) for one_ in itertools.combinations(ids.tolist(), 2)), rel=1e-6)


def test_a_channel_that_depends_on_kept_ones_is_never_taken_up() -> None:
    x, weight, _ = samples(8)
    x[:, 4 * Q : 5 * Q] = x[:, 2 * Q : 3 * Q]
    x[:, 6 * Q : 7 * Q] = 0.0
    one = problem(x, weight, x @ weight.T)
    kept = exchanged([(one, 1.0)], torch.arange(C), mask_of([2, 4, 6, 7])).nonzero().flatten().tolist()
    assert 6 not in kept and not {2, 4} <= set(kept)
