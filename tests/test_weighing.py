"""What an error is worth by the divergence of the outputs, with a floor; statistics renewed only where that helps."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import (
    Calibration,
    CompressionResult,
    Divergence,
    Plan,
    Variable,
    reestimated_norms,
    renewed,
    weighed,
)
from amc_plugins.graph import ReconstructedNetwork

ERRORS = {6: 0.4, 7: 0.3, 8: 0.1, 9: 0.03, 10: 0.0}


class Heads(nn.Module):
    """The sum of three linear maps."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.quiet, self.silent = nn.Linear(12, 5), nn.Linear(12, 5), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.loud(x) + self.quiet(x) + self.silent(x)


class Shaking(Plan):
    """A choice of relative error e moves the weights of its layer by sqrt(e) times the layer's share of a fixed step."""

    shares = {"loud": 3.0, "quiet": 0.6, "silent": 0.0}

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = amc.capture(Heads().eval(), torch.zeros(2, 12))
        self.calibration = Calibration(torch.randn(500, 12, generator=torch.Generator().manual_seed(1)))
        errors = tuple(ERRORS.values())
        self.variables = [Variable(name, (name,), tuple(ERRORS), 10, "channels", errors) for name in self.shares]
        self.layers = []

    def assemble(self, candidate: Mapping[str, int]) -> ReconstructedNetwork:
        made = self.network.clone()
        with torch.no_grad():
            for name, share in self.shares.items():
                step = torch.randn(5, 12, generator=torch.Generator().manual_seed(len(name)))
                made.layer(name).get_parameter("weight").add_(0.1 * share * ERRORS[candidate[name]] ** 0.5 * step)
        return made

    def macs(self, candidate: Mapping[str, int]) -> int:
        return sum(candidate.values())

    def value(self, variable: Variable, ratio: float) -> int:
        raise AssertionError

    def apply(self, candidate: Mapping[str, int], refit: bool = True) -> CompressionResult:
        raise AssertionError


def test_losses_follow_the_outputs_divergence_and_none_is_free() -> None:
    plan = Shaking()
    divergence = Divergence(plan.network, plan.calibration)
    found = {one.name: one for one in weighed(plan, samples=500)}
    shifts = {
        (name, choice): divergence(plan.assemble({**plan.full, name: choice}))
        for name in ("loud", "quiet")
        for choice in (7, 9)
    }
    for (name, choice), shift in shifts.items():  # errors of 0.3 and 0.03 are what is probed
        expected = shift**0.75 * ERRORS[choice] ** 0.25
        assert found[name].loss(choice) == pytest.approx(expected, rel=1e-6)
    assert found["loud"].loss(7) > 5 * found["quiet"].loss(7)

    median = statistics.median([shifts["loud", 9] / 0.03, shifts["quiet", 9] / 0.03, 0.0])
    for choice, error in ERRORS.items():
        assert found["silent"].loss(choice) == pytest.approx((0.05 * median * error) ** 0.75 * error**0.25, rel=1e-6, abs=1e-15)
    for one in found.values():
        assert one.losses is not None and list(one.losses) == sorted(one.losses, reverse=True) and one.losses[-1] == 0.0
        between = one.loss(8) / one.loss(9)  # a power law through both probes
        assert between == pytest.approx((one.loss(7) / one.loss(9)) ** 0.5229, rel=1e-3)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))).mean((2, 3)))


def normed() -> tuple[ReconstructedNetwork, Calibration, dict[str, Any]]:
    """Batch norms with the statistics of the calibration data; the targets of both convolutions."""
    torch.manual_seed(0)
    data = Calibration(torch.randn(400, 1, 8, 8))
    network = reestimated_norms(amc.capture(Normed().eval(), torch.zeros(2, 1, 8, 8)), data)
    assert network is not None
    return network, data, {name: network.nodes_of(name)[0].outputs[0] for name in ("conv1", "conv2")}


def test_renewing_is_taken_where_it_brings_the_outputs_nearer() -> None:
    original, data, targets = normed()
    fitted = original.clone()
    with torch.no_grad():
        for name in targets:
            fitted.layer(name).get_parameter("weight").mul_(0.8)  # the variance that a fit has lost
    before = {name: one.clone() for name, one in fitted.state_dict().items()}
    divergence = Divergence(original, data)
    better = renewed(original, fitted, data, targets)
    assert better is not fitted and divergence(better) < 1e-3 * divergence(fitted)
    assert all(torch.equal(before[name], one) for name, one in fitted.state_dict().items())


def test_renewing_is_left_where_it_takes_the_outputs_further_away() -> None:
    """Statistics of the data are not those of the network, and nothing was lost: both remedies hurt."""
    original, data, targets = normed()
    with torch.no_grad():
        for name in ("bn1", "bn2"):
            original.layer(name).running_var.mul_(1.5)  # type: ignore[union-attr,operator]
    fitted = original.clone()
    with torch.no_grad():
        fitted.layer("fc").get_parameter("weight")[0, 0] += 1e-4
    trial = reestimated_norms(fitted, data)
    assert trial is not None and Divergence(original, data)(trial) > 10 * Divergence(original, data)(fitted)
    assert renewed(original, fitted, data, {"conv1": targets["conv2"]}) is fitted  # matched to what it should not be
