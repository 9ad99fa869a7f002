"""The fit through an activation: its closed form by search, its gain behind ReLU and ReLU6, and what is left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from amc_lowrank._nonlinear import Clip, following_clip, nearest_responses
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.graph import ReconstructedNetwork, capture, walk


@pytest.mark.parametrize("ceiling", [math.inf, 6.0])
@pytest.mark.parametrize("penalty", [0.1, 1.0])
def test_nearest_responses_are_the_best_of_a_fine_grid(ceiling: float, penalty: float) -> None:
    generator = torch.Generator().manual_seed(0)
    u = 6 * torch.randn(300, generator=generator, dtype=torch.float64) + 2
    t = (6 * torch.randn(300, generator=generator, dtype=torch.float64) + 2).clamp(0.0, ceiling)

    def cost(z: Tensor) -> Tensor:
        return (t - z.clamp(0.0, ceiling)).square() + penalty * (z - u).square()

    grid = torch.linspace(-30, 40, 70_001, dtype=torch.float64)
    least = torch.full_like(u, math.inf)
    for part in grid.split(2000):
        least = torch.minimum(least, cost(part[:, None]).min(0).values)
    found = cost(nearest_responses(u, t, penalty, ceiling))
    assert bool((found <= least + 1e-12).all())
    torch.testing.assert_close(found, least, atol=1e-5, rtol=1e-3)


class Plain(nn.Module):
    """Convolutions without batch norms whose responses are often clipped."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.c = nn.Conv2d(24, 24, 1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(4 * self.a(x))
        return self.c(self.activation(self.b(x)))


def _behind(network: ReconstructedNetwork, x: Tensor, op: str, number: int) -> Tensor:
    """The output of the `number`-th node of an op."""
    found = [step.outputs[0] for step in walk(network, (x,)) if step.node.op == op]
    return found[number]


@pytest.mark.parametrize("scheme", ["spatial", "channel", "tucker2"])
@pytest.mark.parametrize("op", ["vn.relu", "vn.relu6"])
def test_error_behind_the_activation_falls(op: str, scheme: str) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Plain(F.relu if op == "vn.relu" else F.relu6).eval()
    with torch.no_grad():
        model.b.weight.mul_(4.0)
    data, unseen = (F.avg_pool2d(torch.randn(400, 1, 14, 14, generator=generator), 3, 1, 1) * 3 for _ in range(2))
    network = capture(model, data[:2])
    errors = []
    with torch.no_grad():
        wanted = _behind(network, unseen, op, 1)
        for nonlinear in (False, True):
            result = amc.compress(
                network,
                "lowrank",
                calibration=data,
                ratios={"b": 0.7},
                scheme=scheme,
                nonlinear_case=nonlinear,
                norm_update=False,
                seed=0,
            )
            made = _behind(result.network, unseen, op, 1)
            errors.append(float((made - wanted).square().mean() / wanted.var()))
    assert errors[1] < 0.97 * errors[0], errors


def test_what_clips_a_response(digits: Any) -> None:
    network = digits.network
    first = following_clip(network, "stage1.conv1")
    assert first is not None and first.ceiling == math.inf
    # behind the sum, and behind nothing: not clipped alone
    assert following_clip(network, "stage1.conv2") is None
    assert following_clip(network, "fc") is None
    with torch.no_grad():
        steps = {step.node.layer: step for step in walk(network, (digits.train[:8],))}
        y = steps["stage1.conv1"].outputs[0].double().movedim(1, -1)
        normed = steps["stage1.bn1"].outputs[0].clamp(min=0).double().movedim(1, -1)
    torch.testing.assert_close(first(y), normed, atol=1e-5, rtol=1e-5)
    assert isinstance(first, Clip)


def test_a_network_with_batch_norms_keeps_its_accuracy_and_its_form(digits: Any) -> None:
    linear, through = (
        amc.compress(digits.network, "lowrank", calibration=digits.train, total=0.5, nonlinear_case=choice)
        for choice in (False, True)
    )
    assert through.macs_after == linear.macs_after
    assert through.candidate == linear.candidate
    assert [node.op for node in through.network.graph.nodes] == [node.op for node in linear.network.graph.nodes]
    assert any(not torch.equal(a, b) for a, b in zip(through.network.parameters(), linear.network.parameters(), strict=True))
    assert digits.accuracy(through.network) > digits.accuracy(linear.network) - 1.0
