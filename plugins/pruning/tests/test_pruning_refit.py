"""The refit of the final network: least squares on its own activations, residual sums, batch norms; and accuracy on digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from amc_pruning._plan import PruningPlan
from amc_pruning._refit import refit
from sklearn.datasets import load_digits
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import (
    Divergence,
    Moments,
    install,
    linear_at,
    nearest_weights,
    reestimated_norms,
    response_targets,
)
from amc_plugins.graph import walk


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        same = inputs == outputs and stride == 1
        self.down = nn.Identity() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.down(x))


class Small(nn.Module):
    """A residual network for 8 x 8 digits: 0.69 million MACs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(self.blocks(F.relu(self.norm(self.stem(x)))), 1).flatten(1))


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1297 training images (N, 1, 8, 8) and 500 others, with labels."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], torch.tensor(data.target)[order]
    return images[:1297], labels[:1297], images[1297:], labels[1297:]


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return 100 * float((network(images).argmax(1) == labels).float().mean())


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    images, labels, _, _ = digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small().train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8 * 20)
        for _ in range(8):
            for batch in torch.randperm(len(images))[:1280].split(64):
                loss = F.cross_entropy(model(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


@pytest.fixture(scope="module")
def plan(trained: nn.Module) -> PruningPlan:
    images = digits()[0]
    made = amc.prepare(amc.capture(trained, images[:2]), "pruning", calibration=[images])
    assert isinstance(made, PruningPlan)
    return made


def test_half_of_the_macs_within_five_points_before_any_training(trained: nn.Module, plan: PruningPlan) -> None:
    _, _, images, labels = digits()
    original = accuracy(trained, images, labels)
    assert original > 96
    result = plan.apply(plan.candidate(total=0.5))
    assert 0.5 <= result.removed <= 0.51
    assert accuracy(result.network, images, labels) >= original - 5
    most = plan.apply(plan.candidate(total=0.7))
    assert accuracy(most.network, images, labels) >= original - 8


def test_plain_selection_without_reconstruction_is_far_worse(plan: PruningPlan) -> None:
    """The same channels with the original weights: what the least squares is for."""
    _, _, images, labels = digits()
    candidate = plan.candidate(total=0.5)
    bare = plan.channels.shrink(plan.removed_channels(candidate))
    assert accuracy(bare, images, labels) < accuracy(plan.assemble(candidate), images, labels) - 10


def test_the_sequential_refit_brings_the_outputs_nearer(trained: nn.Module, plan: PruningPlan) -> None:
    images = digits()[2]
    with torch.no_grad():
        original = trained(images)
        for total in (0.5, 0.7):
            candidate = plan.candidate(total=total)
            once, final = plan.assemble(candidate)(images), plan.apply(candidate).network(images)
            assert float((final - original).square().mean()) < 0.8 * float((once - original).square().mean())


def test_the_last_layer_of_a_branch_makes_up_for_the_shortcut(trained: nn.Module, plan: PruningPlan) -> None:
    candidate = plan.candidate(total=0.7)
    removed = plan.removed_channels(candidate)
    targets = response_targets(plan.channels, plan.fits(candidate), removed)
    shortcuts = {name: target.shortcut for name, target in targets.items() if target.shortcut}
    nodes = {name: plan.network.nodes_of(name)[0] for name in plan.network.layer_names}
    assert shortcuts["blocks.2.conv2"] is not None
    if "blocks.0.conv2" in shortcuts:
        assert shortcuts["blocks.0.conv2"][0] not in nodes["blocks.0.conv2"].outputs
    # of two branches that end in a layer, one is corrected
    assert ("blocks.1.conv2" in shortcuts) != ("blocks.1.down.0" in shortcuts)

    images = digits()[0]
    sums = {}
    for corrected in (True, False):
        pruned = plan.assemble(candidate)
        chosen = targets if corrected else {name: without_shortcut(target) for name, target in targets.items()}
        errors = sum_errors(plan, pruned, chosen, images)
        sums[corrected] = errors
    assert sums[True] < sums[False]


def without_shortcut(target: object) -> object:
    from dataclasses import replace

    return replace(target, shortcut=None, shortcut_scale=None)  # type: ignore[type-var]


def sum_errors(plan: PruningPlan, pruned: object, targets: dict, images: Tensor) -> float:
    """Squared error of the sums of the residual blocks after a refit towards `targets`."""

    from amc_plugins.compression import refit_sequentially

    candidate = plan.candidate(total=0.7)
    removed = plan.removed_channels(candidate)

    def fit(layer: str, moments: Moments) -> dict:
        linear = linear_at(pruned, layer)
        weight, constant, _ = nearest_weights(moments, linear.weight, linear.groups, 1e-6)
        install(pruned, layer, weight, constant)
        return {}

    refit_sequentially(plan.network, pruned, plan.calibration, targets, fit)
    total = 0.0
    with torch.no_grad():
        for ours, theirs in zip(walk(plan.network, (images,)), walk(pruned, (images,)), strict=True):
            if len(ours.node.inputs) == 2:
                ids = plan.channels.values[ours.node.outputs[0]].flatten()
                left = ours.outputs[0][:, ~torch.isin(ids, removed)]
                total += float((left - theirs.outputs[0]).square().mean() / left.var())
    return total


def test_weights_are_those_of_least_squares_and_stay_where_nothing_is_said() -> None:
    rng = np.random.default_rng(0)
    inputs, outputs = rng.normal(size=(400, 6)) + 3.0, rng.normal(size=(400, 4))
    augmented = np.c_[inputs, np.ones(400)]
    x, y = torch.tensor(inputs), torch.tensor(outputs)
    present = torch.tensor(rng.normal(size=(4, 6)))
    moments = Moments(6, 4)
    moments.update(x, y)
    weight, constant, error = nearest_weights(moments, present, 1, 0.0)
    expected = np.linalg.lstsq(augmented, outputs, rcond=None)[0]
    np.testing.assert_allclose(weight.T, expected[:-1], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(constant, expected[-1], rtol=1e-9, atol=1e-9)
    residual, centred = outputs - augmented @ expected, outputs - outputs.mean(0)
    assert error == pytest.approx((residual**2).sum() / (centred**2).sum(), rel=1e-9)

    x[:, 2] = 1.0  # an input that never changes
    flat = Moments(6, 4)
    flat.update(x, y)
    kept, _, _ = nearest_weights(flat, present, 1, 1e-6)
    torch.testing.assert_close(kept[:, 2], present[:, 2], rtol=1e-6, atol=1e-6)


def test_grouped_weights_are_fitted_group_by_group() -> None:
    rng = torch.Generator().manual_seed(1)
    x, y = torch.randn(300, 6, generator=rng).double(), torch.randn(300, 4, generator=rng).double()
    grouped = Moments(6, 4, groups=2)
    grouped.update(x, y)
    weight, _, _ = nearest_weights(grouped, torch.zeros(4, 3), 2, 0.0)
    for group in range(2):
        alone = Moments(3, 2)
        alone.update(x[:, group * 3 : group * 3 + 3], y[:, group * 2 : group * 2 + 2])
        expected, _, _ = nearest_weights(alone, torch.zeros(2, 3), 1, 0.0)
        torch.testing.assert_close(weight[group * 2 : group * 2 + 2], expected, rtol=1e-9, atol=1e-10)


def test_batch_norm_statistics_are_those_of_the_data(plan: PruningPlan) -> None:
    candidate = plan.candidate(total=0.6)
    pruned = plan.channels.shrink(plan.removed_channels(candidate))
    renewed = reestimated_norms(pruned, plan.calibration)
    assert renewed is not None
    assert [module.training for module in renewed.modules()] == [module.training for module in pruned.modules()]
    stem = torch.cat([F.conv2d(chunk[0], renewed.layer("stem").weight, padding=1) for chunk in plan.calibration])
    torch.testing.assert_close(renewed.layer("norm").running_mean, stem.mean((0, 2, 3)).detach(), rtol=0.02, atol=0.02)
    measure = Divergence(plan.network, plan.calibration)
    assert measure(renewed) < measure(pruned)  # large without least squares


def test_the_update_of_norms_is_taken_only_if_the_outputs_come_nearer(plan: PruningPlan) -> None:
    measure = Divergence(plan.network, plan.calibration)
    candidate = plan.candidate(total=0.7)
    fits, removed = plan.fits(candidate), plan.removed_channels(candidate)
    found = {}
    for update in (False, True):
        network, errors = refit(
            plan.channels, plan.assemble(candidate), plan.calibration, fits, removed,
            ridge=1e-6, per_sample=None, norm_update=update, seed=0,
        )  # fmt: skip
        assert set(fits) <= set(errors)
        assert all(0 <= error < 1 for error in errors.values())
        found[update] = measure(network)
    assert found[True] <= found[False]


def test_modes_and_gradients_are_those_of_the_given_network(trained: nn.Module) -> None:
    images = digits()[0][:400]
    network = amc.capture(trained, images[:2])
    network.layer("blocks.0.conv2").weight.requires_grad_(False)
    network.train()
    result = amc.compress(network, "pruning", calibration=[images], total=0.5)
    assert all(module.training for module in result.network.modules())
    assert not result.network.layer("blocks.0.conv2").weight.requires_grad
    assert result.network.layer("blocks.1.conv2").weight.requires_grad
    assert result.network.layer("blocks.0.conv2").bias is None  # the constant is in the batch norm
