"""Streams without an activation: an equal network in another basis, the basis against principal components, what it gains."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from amc_pruning._plan import PruningPlan
from amc_pruning._rotation import rotated, rotations_of, streams_of
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import Calibration, install, linear_at
from amc_plugins.graph import ReconstructedNetwork, channel_map, profile, walk


class Bottlenecks(nn.Module):
    """Two inverted residual blocks on one linear stream, which ends in a convolution with an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.enter, self.enter_norm = nn.Conv2d(12, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.expand, self.expand_norm = nn.Conv2d(8, 20, 1, bias=False), nn.BatchNorm2d(20)
        self.depth, self.depth_norm = nn.Conv2d(20, 20, 3, padding=1, groups=20, bias=False), nn.BatchNorm2d(20)
        self.project = nn.Conv2d(20, 8, 1)
        self.head, self.head_norm = nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter_norm(self.enter(F.relu6(self.stem_norm(self.stem(x)))))
        y = F.relu6(self.depth_norm(self.depth(F.relu6(self.expand_norm(self.expand(x))))))
        x = x + self.project(y)
        return self.fc(F.relu6(self.head_norm(self.head(x))).mean((2, 3)))


class OneReader(nn.Module):
    """A stream that one layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.enter, self.norm = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 8, 1), nn.BatchNorm2d(8)
        self.read, self.fc = nn.Conv2d(8, 10, 1), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.read(self.norm(self.enter(F.relu(self.stem(x)))))).mean((2, 3)))


def images(count: int = 600, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def captured(build: type[nn.Module]) -> ReconstructedNetwork:
    """In float64; batch norms with the statistics of random images, and weights and biases of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().train()
        for batch in images(320, 5).split(32):
            model(batch)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.3, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.5)
    return amc.capture(model.eval().double(), images(2).double())


def prepared(network: ReconstructedNetwork, **settings: object) -> PruningPlan:
    plan = amc.prepare(network, "pruning", calibration=[images()], sampled_pixels_per_img=64, **settings)
    assert isinstance(plan, PruningPlan)
    return plan


@pytest.mark.parametrize("build", [Bottlenecks, OneReader])
def test_the_network_in_the_new_basis_computes_the_same(build: type[nn.Module]) -> None:
    network, x = captured(build), images(40, 9).double()
    channels = channel_map(network)
    streams = streams_of(channels, channels.groups)
    assert [one.name for one in streams] == ["enter"]  # an activation touches every other group
    rotations = rotations_of(network, streams, Calibration(images()))
    turned = rotated(network, rotations)
    matrix = rotations[0].matrix
    torch.testing.assert_close(matrix @ rotations[0].inverse, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float((matrix - torch.diag(matrix.diagonal())).abs().max()) > 0.1  # channels are mixed indeed
    assert torch.allclose(turned(x), network(x), rtol=0, atol=1e-6)  # batch norm statistics are kept in float32
    assert not torch.allclose(turned.layer("enter").weight, network.layer("enter").weight, atol=1e-3)


def test_a_stream_of_one_reader_has_the_errors_of_its_responses_principal_components() -> None:
    """No other k directions of the stream serve the reader better: errors are the tails of the spectrum of its responses."""
    network = captured(OneReader)
    plan = prepared(network, ridge=0.0)
    x, read = images().double(), network.nodes_of("read")[0]
    with torch.no_grad():
        responses = next(step.outputs[0] for step in walk(network, (x,)) if step.node.name == read.name)
    rows = responses.movedim(1, -1).reshape(-1, 10)
    energies = torch.linalg.eigvalsh((rows - rows.mean(0)).T @ (rows - rows.mean(0)) / len(rows)).flip(0)
    variable = next(one for one in plan.variables if one.name == "enter")
    assert variable.choices == tuple(range(1, 9))
    for count in variable.choices[:-1]:
        tail = float(energies[count:].sum() / energies.sum())
        assert variable.error(count) == pytest.approx(tail, rel=2e-3, abs=1e-6)
    plain = next(one for one in prepared(network, ridge=0.0, rotate=False).variables if one.name == "enter")
    assert all(variable.error(count) < 0.9 * plain.error(count) for count in variable.choices[1:-2])


def test_directions_of_a_residual_stream_go_from_all_its_layers() -> None:
    network, x = captured(Bottlenecks), images(300, 7).double()
    plan, plain = prepared(network), prepared(network, rotate=False)
    assert set(plan.rotations) == {"enter"} and not plain.rotations
    candidate = plan.full.replaced(enter=4)
    assert plan.macs(candidate) == plain.macs(candidate)
    smaller = plan.assemble(candidate)
    assert plan.macs(candidate) == profile(smaller).total_macs
    widths = [smaller.layer(name).get_parameter("weight").shape[:2] for name in ("enter", "expand", "project", "head")]
    assert widths == [(4, 12), (20, 4), (4, 20), (16, 4)]

    # the same as the whole network in the new basis with zeros for the columns of what goes
    masked, removed = plan.base(candidate).network.clone(), plan.removed_channels(candidate)
    for layer, fitted in plan.fits(candidate).items():
        weight = torch.zeros_like(linear_at(masked, layer).weight)
        weight[:, ~torch.isin(plan.channels.inputs[layer], removed)] = fitted.weight
        install(masked, layer, weight, fitted.bias)
    assert torch.allclose(smaller(x), masked(x), rtol=0, atol=1e-9)

    result = plan.apply(candidate)
    assert "8 -> 4 input channels (rotated)" in {layer.change for layer in result.layers}
    with torch.no_grad():
        wanted = network(x)
        errors = [float((one.apply(candidate).network(x) - wanted).square().mean()) for one in (plan, plain)]
    assert errors[0] < 0.8 * errors[1]
    assert torch.equal(plan.apply(plan.full).network(x), network(x))  # nothing is turned where nothing goes
