"""Pruning in several steps: equal parts, the same counts in the end, channels chosen again on what the network has become."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from amc_pruning._plan import PruningPlan
from amc_pruning._steps import step_counts
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import Candidate
from amc_plugins.graph import ReconstructedNetwork, profile


class Deep(nn.Module):
    """Four convolutions and a residual sum; what is removed first changes what the later ones see."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.a, self.b = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.c, self.fc = nn.Conv2d(16, 24, 3, padding=1), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.b(F.relu(self.a(x))))
        return self.fc(F.relu(self.c(x)).mean((2, 3)))


def images(count: int = 600, seed: int = 0) -> Tensor:
    noise = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise, 3, 1, 1) * 3


@pytest.fixture(scope="module")
def network() -> ReconstructedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Deep().train()
        for batch in images(320, 5).split(32):
            model(batch)
    return amc.capture(model.eval(), images(2))


def prepared(network: ReconstructedNetwork, steps: int) -> PruningPlan:
    plan = amc.prepare(network, "pruning", calibration=[images()], steps=steps)
    assert isinstance(plan, PruningPlan)
    return plan


def test_every_step_takes_an_equal_part(network: ReconstructedNetwork) -> None:
    plan = prepared(network, 4)
    candidate = Candidate({"stem": 8, "a": 4, "c": 20})
    assert step_counts(plan, candidate) == [
        {"stem": 14, "a": 13, "c": 23},
        {"stem": 12, "a": 10, "c": 22},
        {"stem": 10, "a": 7, "c": 21},
    ]
    assert step_counts(prepared(network, 1), candidate) == []


def test_the_counts_are_those_of_the_candidate_and_the_channels_are_chosen_anew(network: ReconstructedNetwork) -> None:
    once, plan = prepared(network, 1), prepared(network, 3)
    candidate = plan.candidate(total=0.7)
    assert candidate == once.candidate(total=0.7)
    results = {steps: one.apply(candidate) for steps, one in ((1, once), (3, plan))}
    for result in results.values():
        assert result.macs_after == plan.macs(candidate) == profile(result.network).total_macs
        for variable in plan.variables:
            assert all(len(result.kept[layer]) == candidate[variable.name] for layer in variable.layers)
    assert results[3].kept != results[1].kept
    x = images(300, 8)
    with torch.no_grad():
        wanted = network(x)
        errors = {steps: float((one.network(x) - wanted).square().mean()) for steps, one in results.items()}
        bare = float((once.assemble(candidate)(x) - wanted).square().mean())
    assert errors[3] < bare
    assert errors[3] < 1.1 * errors[1]
    again = plan.apply(candidate)
    assert all(torch.equal(a, b) for a, b in zip(again.network.parameters(), results[3].network.parameters(), strict=True))
