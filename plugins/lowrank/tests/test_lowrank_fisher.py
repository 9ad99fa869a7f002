"""The metric of the outputs: it predicts what an error of a response does to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from amc_lowrank._fisher import output_metrics
from amc_lowrank._layers import find_layers
from torch import Tensor, nn

from amc_plugins.compression import Calibration
from amc_plugins.graph import ReconstructedNetwork, capture, walk

LAYERS = ("stage1.conv1", "stage1.conv2", "stage2.conv1", "stage2.conv2", "fc")


def with_noise(network: ReconstructedNetwork, layer: str, x: Tensor, noise: Tensor) -> Tensor:
    output = torch.zeros(0)
    with torch.no_grad():
        for step in walk(network, (x,)):
            if step.node.layer == layer:
                step.outputs[0] = step.outputs[0] + noise
            output = step.outputs[0]
    return output


@pytest.mark.parametrize("layer", LAYERS)
def test_small_errors_change_the_outputs_as_predicted(digits: Any, layer: str) -> None:
    """Mean KL divergence against `positions * tr(D E[e e^T]) / 2`, for noise along one axis of D and for white noise."""
    network = digits.network
    axis = -1 if layer == "fc" else 1
    x = digits.train
    metric = output_metrics(network, Calibration(digits.train), [layer], [axis], seed=0)[layer]
    with torch.no_grad():
        logs = network(x).log_softmax(1)
    shape = {"stage1": (12, 8, 8), "stage2": (24, 4, 4), "fc": (10,)}[layer.partition(".")[0]]
    values, vectors = torch.linalg.eigh(metric)
    assert float(values.min()) > -1e-6 * float(values.max())
    positions = int(torch.tensor(shape[1:]).prod()) if shape[1:] else 1
    for direction, weight in ((vectors[:, -1], float(values[-1])), (None, float(values.sum()))):
        size = (1e-4 / (0.5 * positions * weight)) ** 0.5  # noise that should cost so many nats
        generator = torch.Generator().manual_seed(1)
        if direction is None:
            noise = size * torch.randn(len(x), *shape, generator=generator)
        else:
            along = torch.randn(len(x), 1, *shape[1:], generator=generator)
            noise = size * along * direction.float().reshape(-1, *[1] * (len(shape) - 1))
        moved = with_noise(network, layer, x, noise).log_softmax(1)
        measured = float(F.kl_div(moved, logs, log_target=True, reduction="batchmean"))
        assert measured == pytest.approx(1e-4, rel=0.5)


def test_other_outputs_give_the_curvature_of_their_squared_error() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 1)).eval()
    x = torch.randn(64, 3, 6, 6)
    network = capture(model, x[:2])
    metric = output_metrics(network, Calibration(x), ["0"], [1], seed=0)["0"]
    weight = model[1].weight.flatten(1).detach().double()  # type: ignore[union-attr,operator]
    exact = weight.T @ weight
    exact = exact / float(model(x).detach().double().std()) ** 2
    assert float((metric - exact).norm() / exact.norm()) < 0.05


def test_what_no_output_depends_on_keeps_its_plain_metric() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Conv2d(3, 6, 3)
            self.idle = nn.Conv2d(3, 6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x).mean((2, 3)) + 0.0 * self.idle(x).mean((2, 3))

    network = capture(Idle().eval(), torch.rand(2, 3, 6, 6))
    metrics = output_metrics(network, Calibration(torch.randn(40, 3, 6, 6)), ["used", "idle"], [1, 1], seed=0)
    assert float(metrics["used"].trace()) > 0 and float(metrics["idle"].abs().max()) == 0.0
    wide = capture(nn.Sequential(nn.Conv2d(5, 8, 3), nn.BatchNorm2d(8)).eval(), torch.rand(2, 5, 6, 6))
    (info,) = find_layers(wide)[0]
    before = info.metric
    info.weigh(torch.zeros(8, 8, dtype=torch.float64), 0.1)
    assert info.metric is before and info.importance(torch.eye(8, dtype=torch.float64)) == 1.0


def test_parameters_get_no_gradients_and_the_seed_decides(digits: Any) -> None:
    data = Calibration(digits.train[:200])
    state = torch.get_rng_state()
    a, b, c = (output_metrics(digits.network, data, ["fc"], [-1], seed=seed)["fc"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in digits.network.parameters())
