"""1 x 1, k x k, 1 x 1: errors and costs of the chains, and what the middle rank leaves out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from amc_lowrank._layers import LayerInfo, find_layers
from amc_lowrank._options import Statistics
from amc_lowrank._split import SplitProblem
from amc_lowrank._tucker import TuckerScheme
from torch import Tensor, nn

from amc_plugins.compression import Calibration, collect_moments
from amc_plugins.graph import ReconstructedNetwork, capture, profile, replace


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_conv(**geometry: Any) -> tuple[ReconstructedNetwork, LayerInfo, Tensor, Statistics]:
    """Inputs of 9 channels that vary mostly in 4 directions."""
    torch.manual_seed(0)
    x = torch.einsum("nchw,cd->ndhw", normal(60, 4, 10, 10), normal(4, 9, seed=1)) + 0.3 * normal(60, 9, 10, 10, seed=2) + 0.4
    network = capture(nn.Sequential(nn.Conv2d(9, 12, **geometry), nn.ReLU()).eval(), x[:2])
    (info,) = find_layers(network)[0]
    return network, info, x, Statistics.of(collect_moments(network, Calibration(x), ["0"], per_sample=100)["0"])


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (1, 3), "dilation": 2, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_the_chain_has_the_error_and_the_cost_of_its_option(geometry: dict[str, Any]) -> None:
    network, info, x, statistics = one_conv(**geometry)
    y = network.layer("0")(x).detach().double()
    spread = float((y - y.mean((0, 2, 3), keepdim=True)).square().sum())
    fitted = TuckerScheme(inputs=4, outputs=4).fit(info, statistics)
    assert {option.ranks[1] for option in fitted.options} >= {3, 6}
    for option in fitted.options:
        modules = fitted.chain(info, option)
        assert len(modules) == (2 if option.ranks[1] == 12 else 3)
        made = nn.Sequential(*modules)(x).detach().double()
        assert float((made - y).square().sum()) / spread == pytest.approx(option.error, rel=5e-3, abs=1e-9)
        copied = network.clone()
        replace(copied, "0", [(info.op, module) for module in modules])
        assert profile(copied).total_macs == option.macs < info.macs


def test_more_of_either_rank_is_never_worse_and_the_data_beat_the_weights() -> None:
    network, info, x, statistics = one_conv(kernel_size=3, padding=1)
    options = {option.ranks: option.error for option in TuckerScheme(9, 12, curve_rounds=2).fit(info, statistics).options}
    for (d1, d2), error in options.items():
        assert options.get((d1, d2 + 1), 0.0) <= error + 1e-9
        assert options.get((d1 + 1, d2), 0.0) <= error * 1.02 + 1e-9  # each d1 alternates from a start of its own
    # HOSVD of the weights: leading singular vectors of both unfoldings
    weight = info.weight.reshape(12, 9, 9)
    first = torch.linalg.svd(weight.permute(1, 0, 2).reshape(9, -1))[0][:, :4]
    last = torch.linalg.svd(weight.reshape(12, -1))[0][:, :6]
    approximated = torch.einsum("ncq,nm,cd->mdq", weight, last @ last.T, first @ first.T)
    y = network.layer("0")(x).detach()
    difference = nn.functional.conv2d(x, approximated.reshape(12, 9, 3, 3).float(), info.bias.float(), padding=1) - y
    difference = difference - difference.mean((0, 2, 3), keepdim=True)
    plain = float(difference.square().sum() / (y - y.mean((0, 2, 3), keepdim=True)).square().sum())
    assert options[4, 6] < 0.5 * plain


def test_a_rank_limited_core_is_the_best_for_its_features() -> None:
    """The error of rank d2 equals that of reduced-rank regression on the projected patches."""
    _, info, _, statistics = one_conv(kernel_size=3, padding=1)
    problem = SplitProblem(info, statistics, "taps")
    v = problem.start()[:, :5]
    gram, cross = problem.features(v)
    directions, errors = problem.outputs(problem.solve_h(gram, cross), cross)
    flat, right = gram.reshape(45, 45), cross.reshape(45, 12)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(0.5 * (flat + flat.T)), right, upper=False)
    values = torch.linalg.svdvals(whitened).square()
    for rank in (1, 4, 9):
        assert float(errors[rank]) == pytest.approx(1 - float(values[:rank].sum()) / problem.total, rel=1e-5)
    assert torch.allclose(directions.T @ directions, torch.eye(12, dtype=torch.float64), atol=1e-9)
