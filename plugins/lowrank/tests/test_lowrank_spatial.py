"""k x 1 and 1 x k: the alternation against dense solves and against samples."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
import torch
from amc_lowrank._layers import LayerInfo, find_layers
from amc_lowrank._options import Statistics
from amc_lowrank._spatial import SpatialScheme
from amc_lowrank._split import SplitProblem
from amc_lowrank._tucker import TuckerScheme
from torch import Tensor, nn

from amc_plugins.compression import Calibration, Moments, collect_moments, linear_map
from amc_plugins.graph import ReconstructedNetwork, capture, profile, replace


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


GEOMETRIES = {
    "plain": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "oblong": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (2, 1)},
    "dilated": {"kernel_size": 3, "padding": (2, 1), "dilation": (2, 1)},
    "same": {"kernel_size": (3, 5), "padding": "same"},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
}


def one_conv(geometry: str = "plain") -> tuple[ReconstructedNetwork, LayerInfo, Tensor, Statistics]:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 8, **GEOMETRIES[geometry])  # type: ignore[arg-type]
    x = torch.einsum("nchw,cd->ndhw", normal(80, 5, 9, 11), normal(5, 5, seed=1)) + 0.5
    x[:, :, 1:] += 0.7 * x[:, :, :-1]
    x[:, :, :, 1:] += 0.7 * x[:, :, :, :-1]
    network = capture(nn.Sequential(conv, nn.ReLU()).eval(), x[:2])
    (info,) = find_layers(network)[0]
    moments = collect_moments(network, Calibration(x), ["0"], per_sample=99)["0"]
    return network, info, x, Statistics.of(moments)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_chain_has_the_error_and_the_cost_of_its_option(geometry: str) -> None:
    network, info, x, statistics = one_conv(geometry)
    y = network.layer("0")(x).detach().double()
    scale = float((y - y.mean((0, 2, 3), keepdim=True)).square().sum())
    fitted = SpatialScheme(choices=4).fit(info, statistics)
    assert len(fitted.options) == 4
    for option in fitted.options:
        modules = fitted.chain(info, option)
        made = nn.Sequential(*modules)(x).detach().double()
        assert float((made - y).square().sum()) / scale == pytest.approx(option.error, rel=2e-3, abs=1e-9)
        copied = network.clone()
        replace(copied, "0", [(info.op, module) for module in modules])
        assert profile(copied).total_macs == option.macs < info.macs
    errors = [option.error for option in fitted.options]
    assert errors == sorted(errors, reverse=True)


def test_conjugate_gradients_reach_the_dense_solution() -> None:
    _, info, _, statistics = one_conv()
    problem = SplitProblem(info, statistics, "columns")
    v = problem.start()[:, :4]
    h = problem.solve_h(*problem.features(v))
    gram = problem.gram.reshape(problem.parts, problem.p, problem.parts, problem.p)
    mixing = torch.einsum("udn,wen->wude", h, h)
    system = torch.einsum("wpuq,wude->peqd", gram, mixing).reshape(problem.p * 4, problem.p * 4)
    right = torch.einsum("wpn,wdn->pd", problem.cross, h).reshape(-1)
    dense = torch.linalg.solve(system, right).reshape(problem.p, 4)
    found = problem.solve_v(v, h, steps=60)
    assert float((found - dense).norm() / dense.norm()) < 1e-5


@pytest.mark.parametrize("parts", ["columns", "taps"])
def test_one_factorisation_gives_the_solutions_of_all_ranks(parts: Literal["columns", "taps"]) -> None:
    """Wide layers' curves; a column of V that is zero, as those of entries that never vary are, changes nothing."""
    _, info, _, statistics = one_conv()
    problem = SplitProblem(info, statistics, parts)
    v = problem.start()
    v[:, 1] = 0.0
    ranks = [1, 2, len(v) // 2, len(v)]
    for rank, (h, cross) in zip(ranks, problem.nested(v, ranks), strict=True):
        own, own_cross = problem.features(v[:, :rank])
        assert torch.allclose(cross, own_cross)
        assert torch.allclose(h, problem.solve_h(own, own_cross), atol=1e-6 * float(h.abs().max()))
        assert bool((h[:, 1:2] == 0).all())
    assert problem.error(h, cross) == pytest.approx(problem.alternated(v, 0)[2], abs=1e-9)
    assert list(problem.nested(v, [])) == []


def test_schemes_without_alternation_offer_the_chains_of_their_start() -> None:
    """What layers with long patches get: each option's error is that of its chain, and alternation is never worse."""
    network, info, x, statistics = one_conv()
    y = network.layer("0")(x).detach().double()
    spread = float((y - y.mean((0, 2, 3), keepdim=True)).square().sum())
    for quick, thorough in (
        (SpatialScheme(choices=4, curve_rounds=0), SpatialScheme(choices=4)),
        (TuckerScheme(3, 3, curve_rounds=0), TuckerScheme(3, 3)),
    ):
        fitted, best = quick.fit(info, statistics), thorough.fit(info, statistics)
        assert fitted.options and [one.ranks for one in fitted.options] == [one.ranks for one in best.options]
        for option in fitted.options:
            made = nn.Sequential(*fitted.chain(info, option))(x).detach().double()
            assert float((made - y).square().sum()) / spread == pytest.approx(option.error, rel=2e-3, abs=1e-9)
        assert sum(one.error for one in best.options) < sum(one.error for one in fitted.options)


def test_alternation_never_rises_and_beats_the_factors_of_the_weights() -> None:
    """Ranks 3 and 6; the comparison is the weights' own SVD, the fit without data."""
    network, info, x, statistics = one_conv()
    problem = SplitProblem(info, statistics, "columns")
    y = network.layer("0")(x).detach()
    spread = float((y - y.mean((0, 2, 3), keepdim=True)).square().sum())
    for rank in (3, 6):
        errors = [problem.alternated(problem.start()[:, :rank], rounds)[2] for rounds in range(5)]
        assert all(b <= a + 1e-12 for a, b in itertools.pairwise(errors))
        assert errors[-1] < errors[0]
        u, s, v = torch.linalg.svd(info.weight.reshape(8, 5, 3, 3).permute(1, 2, 0, 3).reshape(15, 24), full_matrices=False)
        approximated = ((u[:, :rank] * s[:rank]) @ v[:rank]).reshape(5, 3, 8, 3).permute(2, 0, 1, 3)
        plain = nn.functional.conv2d(x, approximated.float(), info.bias.float(), padding=1)
        difference = plain - y
        difference = difference - difference.mean((0, 2, 3), keepdim=True)
        assert errors[-1] < 0.7 * float(difference.square().sum()) / spread


def test_all_ranks_reproduce_the_layer() -> None:
    _, info, _, statistics = one_conv()
    problem = SplitProblem(info, statistics, "columns")
    _, _, error = problem.alternated(problem.start(), 0)
    assert error < 1e-8


def test_refit_takes_up_a_shift_of_the_input() -> None:
    network, info, x, statistics = one_conv()
    scheme = SpatialScheme(choices=6)
    fitted = scheme.fit(info, statistics)
    option = fitted.options[3]
    shifted = 0.8 * x + 0.1 * normal(*x.shape, seed=5) + 0.3
    linear = linear_map(network, "0")
    assert linear is not None
    y = network.layer("0")(x).detach()
    positions = linear.positions(tuple(y.shape), None, torch.Generator())
    moments = Moments(45, 8)
    moments.update(linear.patches(shifted, positions), linear.responses(y, positions))
    modules, error = scheme.refit(info, fitted, option, Statistics.of(moments))
    made = nn.Sequential(*modules)(shifted).detach()
    spread = float((y - y.mean((0, 2, 3), keepdim=True)).square().sum())
    before = nn.Sequential(*fitted.chain(info, option))(shifted).detach()
    assert float((made - y).square().sum()) / spread == pytest.approx(error, rel=0.02)  # padding sees no shift: borders differ
    assert float((made - y).square().sum()) < 0.8 * float((before - y).square().sum())


def test_dead_and_repeated_channels_are_no_obstacle() -> None:
    torch.manual_seed(0)
    x = normal(60, 5, 9, 9)
    x[:, 1] = 0.0
    x[:, 3] = x[:, 4]
    network = capture(nn.Sequential(nn.Conv2d(5, 8, 3, padding=1), nn.ReLU()).eval(), x[:2])
    (info,) = find_layers(network)[0]
    statistics = Statistics.of(collect_moments(network, Calibration(x), ["0"], per_sample=81)["0"])
    y = network.layer("0")(x).detach().double()
    spread = float((y - y.mean((0, 2, 3), keepdim=True)).square().sum())
    fitted = SpatialScheme(choices=4).fit(info, statistics)
    for option in fitted.options:
        made = nn.Sequential(*fitted.chain(info, option))(x).detach().double()
        assert float((made - y).square().sum()) / spread == pytest.approx(option.error, rel=1e-2, abs=1e-6)
    assert fitted.options[-1].error < 0.02
