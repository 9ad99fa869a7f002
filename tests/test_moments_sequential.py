"""The sequential refit: targets of the original, inputs of the network as far as it is fitted, in running order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.compression import (
    Calibration,
    Divergence,
    Moments,
    Target,
    collect_moments,
    linear_map,
    match_responses,
    refit_sequentially,
    solve_gram,
)
from amc_plugins.core.errors import GraphError
from amc_plugins.graph import ReconstructedNetwork, capture
from tests.networks import SmallResNet, randomized


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Deep(nn.Module):
    """Eight convolutions in a row; each sees what the ones before it make."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3 if index == 0 else width, width, 3, padding=1) for index in range(8)])

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return x


def deep() -> tuple[ReconstructedNetwork, Calibration]:
    torch.manual_seed(0)
    model = Deep()
    for conv in model.convs:
        nn.init.kaiming_normal_(conv.weight)
    return capture(model.eval(), torch.rand(2, 3, 8, 8)), Calibration(normal(200, 3, 8, 8))


def fitted(network: ReconstructedNetwork, name: str, moments: Moments, rank: int | None = None) -> nn.Module:
    """The least-squares layer, or (rank given) its best approximation of that rank in the same layer."""
    linear = linear_map(network, name)
    assert linear is not None
    weight = solve_gram(moments.gram, moments.cross, ridge=1e-10).T
    if rank is not None:
        vectors = torch.linalg.eigh(weight @ moments.cross).eigenvectors[:, -rank:]
        weight = vectors @ vectors.T @ weight
    return linear.rebuilt(weight.float(), (moments.mean_y - weight @ moments.mean_x).float())


def value_of(network: ReconstructedNetwork, name: str) -> str:
    return network.nodes_of(name)[0].outputs[0]


def error(a: ReconstructedNetwork, b: ReconstructedNetwork, x: Tensor) -> float:
    with torch.no_grad():
        return float((a(x) - b(x)).square().sum() / a(x).square().sum())


def test_refitting_an_unchanged_network_changes_nothing() -> None:
    original, data = deep()
    copied = original.clone()
    seen: list[str] = []

    def fit(name: str, moments: Moments) -> dict[str, nn.Module]:
        seen.append(name)
        return {name: fitted(copied, name, moments)}

    names = [name for name in original.layer_names if name.startswith("convs")]
    refit_sequentially(original, copied, data, {name: value_of(original, name) for name in reversed(names)}, fit)
    assert seen == names  # running order, whatever the order of the mapping
    assert error(original, copied, normal(50, 3, 8, 8, seed=9)) < 1e-8


def test_asymmetric_beats_symmetric_on_a_deep_network() -> None:
    """Each layer at rank 5 of 8: fitted on the original's inputs, or in order on what the approximated layers make."""
    original, data = deep()
    names = [name for name in original.layer_names if name.startswith("convs")][1:]
    symmetric, asymmetric = original.clone(), original.clone()
    once = collect_moments(original, data, names)
    for name in names:
        vectors = torch.linalg.eigh(once[name].output_gram).eigenvectors[:, -5:]
        weight = vectors @ vectors.T @ once[name].weight
        bias = once[name].mean_y - weight @ once[name].mean_x
        with torch.no_grad():
            symmetric.layer(name).weight.copy_(weight.reshape(symmetric.layer(name).weight.shape))  # type: ignore[union-attr,operator,arg-type]
            symmetric.layer(name).bias.copy_(bias)  # type: ignore[union-attr,operator]
    refit_sequentially(
        original,
        asymmetric,
        data,
        {name: value_of(original, name) for name in names},
        lambda name, moments: {name: fitted(asymmetric, name, moments, rank=5)},
    )
    fresh = normal(200, 3, 8, 8, seed=7)
    assert error(original, asymmetric, fresh) < 0.8 * error(original, symmetric, fresh)


def test_samples_of_both_networks_are_the_same_pixels() -> None:
    """x of the compressed and y of the original network: their moments equal those of samples taken by hand."""
    original, data = deep()
    other = original.clone()
    with torch.no_grad():
        other.layer("convs.0").weight.mul_(0.5)  # type: ignore[union-attr,operator]
    found: dict[str, Moments] = {}
    refit_sequentially(
        original,
        other,
        data,
        {"convs.1": value_of(original, "convs.1")},
        lambda name, moments: found.update({name: moments}),
        per_sample=64,
    )
    (x,) = next(iter(data))
    linear = linear_map(original, "convs.1")
    assert linear is not None
    positions = linear.positions((200, 8, 8, 8), None, torch.Generator())
    with torch.no_grad():
        patches = linear.patches(F.relu(other.layer("convs.0")(x)), positions).double()
        responses = linear.responses(original.layer("convs.1")(F.relu(original.layer("convs.0")(x))), positions).double()
    moments = found["convs.1"]
    assert moments.count == 200 * 64
    exact = (patches - patches.mean(0)).T @ (responses - responses.mean(0)) / len(patches)
    assert float((moments.cross - exact).norm() / exact.norm()) < 1e-6
    shuffled = (patches - patches.mean(0)).T @ (responses.roll(1, 0) - responses.mean(0)) / len(patches)
    assert float((moments.cross - shuffled).norm() / exact.norm()) > 0.3


def test_little_memory_takes_fewer_samples_first_and_more_where_they_fit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.MaxPool2d(4),
        nn.Conv2d(16, 8, 3, padding=1),
    ).eval()
    original, data = capture(model, torch.rand(2, 3, 16, 16)), Calibration(normal(200, 3, 16, 16))
    targets = {name: value_of(original, name) for name in ("2", "4")}

    def refit(memory: int) -> tuple[dict[str, int], ReconstructedNetwork]:
        copied, counts = original.clone(), {}

        def fit(name: str, moments: Moments) -> dict[str, nn.Module]:
            counts[name] = moments.count
            return {name: fitted(copied, name, moments)}

        refit_sequentially(original, copied, data, targets, fit, per_sample=64, memory=memory)
        return counts, copied

    large, network = refit(1 << 30)
    assert large == {"2": 200 * 64, "4": 200 * 16}
    small, again = refit(1 << 20)  # one sample has 16 KiB in a map of the first convolution
    assert small["2"] < large["2"] and small["4"] == large["4"]
    x = normal(20, 3, 16, 16, seed=5)
    assert error(network, again, x) < 1e-8
    most, _ = refit(6 << 20)  # all samples fit further down, but they are not twice as many
    assert 200 * 64 // 2 < most["2"] < large["2"] and most["4"] == most["2"] // 4


def test_layers_whose_statistics_exceed_the_cap_keep_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    original, data = deep()
    targets = {name: value_of(original, name) for name in original.layer_names if name.startswith("convs")}
    monkeypatch.setattr("amc_plugins.core.sequential.MEMORY", 8 * 27**2)  # what the first needs, of 3 channels; others read 8
    seen: list[str] = []
    refit_sequentially(original, original.clone(), data, targets, lambda name, moments: seen.append(name))
    assert seen == ["convs.0"]
    monkeypatch.setattr("amc_plugins.core.sequential.MEMORY", 1)
    refit_sequentially(original, original.clone(), data, targets, lambda name, moments: seen.append(name))
    assert seen == ["convs.0"]


class Branch(nn.Module):
    """A shortcut with a convolution of its own, which runs after the branch that it is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.shortcut = nn.Conv2d(3, 6, 1)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(F.relu(self.first(x)))
        return self.head(F.relu(y + self.shortcut(x)))


def test_the_last_layer_of_a_branch_makes_up_for_its_shortcut() -> None:
    torch.manual_seed(0)
    original = capture(Branch().eval(), torch.rand(2, 3, 8, 8))
    data = Calibration(normal(300, 3, 8, 8))
    damaged = original.clone()
    with torch.no_grad():
        damaged.layer("shortcut").weight.mul_(0.3)  # type: ignore[union-attr,operator]
    value = value_of(original, "last")
    shortcut = (value_of(original, "shortcut"), value_of(damaged, "shortcut"))
    results = {}
    for name, target in {"branch alone": Target(value), "sum": Target(value, shortcut=shortcut)}.items():
        network = damaged.clone()
        refit_sequentially(
            original,
            network,
            data,
            {"last": target},
            lambda layer, moments, network=network: {layer: fitted(network, layer, moments)},
        )
        results[name] = error(original, network, normal(100, 3, 8, 8, seed=3))
    assert results["branch alone"] == pytest.approx(error(original, damaged, normal(100, 3, 8, 8, seed=3)), rel=0.05)
    assert results["sum"] < 0.5 * results["branch alone"]


def test_matched_responses_have_the_targets_mean_and_variance() -> None:
    original, data = deep()
    other = original.clone()
    with torch.no_grad():
        other.layer("convs.2").weight.mul_(0.7)  # type: ignore[union-attr,operator]
        other.layer("convs.2").bias.add_(0.4)  # type: ignore[union-attr,operator]
        other.layer("convs.5").weight.mul_(1.2)  # type: ignore[union-attr,operator]
    names = ["convs.2", "convs.5"]
    match_responses(original, other, data, {name: value_of(original, name) for name in names})
    assert error(original, other, normal(50, 3, 8, 8, seed=4)) < 1e-9


def test_modes_and_settings_of_the_old_modules_stay() -> None:
    torch.manual_seed(0)
    original = capture(randomized(SmallResNet()), torch.rand(2, 3, 16, 16))
    copied = original.clone().train()
    copied.layer("layer1.0.bn1").eval()
    copied.layer("layer1.0.conv1").requires_grad_(False)
    refit_sequentially(
        original,
        copied,
        Calibration(normal(100, 3, 16, 16)),
        {"layer1.0.conv1": value_of(original, "layer1.0.conv1")},
        lambda name, moments: {name: fitted(copied, name, moments)},
    )
    assert copied.training and copied.layer("layer1.0.conv1").training
    assert not copied.layer("layer1.0.bn1").training
    # the refit adds a bias: the document says so
    assert copied.nodes_of("layer1.0.conv1")[0].params["bias"] is True
    assert not any(one.training for one in original.modules())
    assert Divergence(original, Calibration(normal(20, 3, 16, 16)))(copied) < 1e-6


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.conv(x)))


def test_what_cannot_be_fitted_in_order_is_refused() -> None:
    data = Calibration(normal(4, 3, 8, 8))
    twice = capture(Twice().eval(), torch.rand(2, 3, 8, 8))
    with pytest.raises(GraphError, match="runs 2 times"):
        refit_sequentially(twice, twice.clone(), data, {"conv": twice.graph.nodes[0].outputs[0]}, lambda name, moments: None)
    original, _ = deep()
    with pytest.raises(GraphError, match="no value of the original"):
        refit_sequentially(original, original.clone(), data, {"convs.1": "nothing"}, lambda name, moments: None)
    value = value_of(original, "convs.1")
    itself = Target(value, shortcut=(value, value_of(original, "convs.2")))
    with pytest.raises(GraphError, match="depends on the layer itself"):
        refit_sequentially(original, original.clone(), data, {"convs.1": itself}, lambda name, moments: None)
