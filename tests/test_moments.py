"""Second moments: equal to those of the samples, well conditioned far from zero, and collected where the layer looks."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.compression import Calibration, Moments, collect_moments, linear_map, moments_bytes, solve_gram
from amc_plugins.core.errors import GraphError, SettingsError
from amc_plugins.core.sampling import sampled_positions
from amc_plugins.graph import ReconstructedNetwork, capture
from tests.networks import SmallResNet, randomized


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def covariance(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.double(), y.double()
    return (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)


def close(given: Tensor, wanted: Tensor, relative: float) -> bool:
    return float((given - wanted).norm()) <= relative * float(wanted.norm())


@pytest.mark.parametrize(("offset", "relative"), [(0.0, 1e-6), (30.0, 1e-6), (1000.0, 1e-5)])
def test_moments_equal_the_samples(offset: float, relative: float) -> None:
    x = normal(5000, 12) @ normal(12, 12, seed=1) + offset
    y = x[:, :3] @ normal(3, 5, seed=2) + normal(5000, 5, seed=3) - offset
    moments = Moments(12, 5)
    for a, b in zip(x.split(700), y.split(700), strict=True):
        moments.update(a, b)
    assert moments.count == 5000 and moments.per_unknown == pytest.approx(5000 / 12)
    assert float((moments.mean_x - x.double().mean(0)).abs().max()) < 1e-6 * (1 + offset)
    assert float((moments.mean_y - y.double().mean(0)).abs().max()) < 1e-6 * (1 + offset)
    assert close(moments.gram, covariance(x, x), relative)
    assert close(moments.cross, covariance(x, y), relative)
    assert close(moments.output_gram, covariance(y, y), relative)
    assert torch.equal(moments.gram, moments.gram.T)


def test_the_shift_keeps_the_gram_positive_definite() -> None:
    # directions of variance 1e-6 beside a mean of 30: without the shift they drown in float32 products
    x = normal(20000, 8) * torch.tensor([1.0] * 4 + [1e-3] * 4) + 30
    moments = Moments(8)
    plain = torch.zeros(8, 8, dtype=torch.float64)
    for part in x.split(1000):
        moments.update(part)
        plain += (part.T @ part).double()
    mean = x.double().mean(0)
    exact = torch.linalg.eigvalsh(covariance(x, x)).min()
    assert float(torch.linalg.eigvalsh(moments.gram).min()) == pytest.approx(float(exact), rel=1e-3)
    assert float(torch.linalg.eigvalsh(plain / len(x) - torch.outer(mean, mean)).min()) < 0


@pytest.mark.parametrize("groups", [1, 3])
def test_merged_moments_equal_those_of_all_samples(groups: int) -> None:
    x, y = normal(900, 6) + 5, normal(900, 9, seed=1) - 2
    whole, merged = Moments(6, 9, groups=groups), Moments(6, 9, groups=groups)
    whole.update(x, y)
    for start, stop in ((0, 100), (100, 850), (850, 900)):
        part = Moments(6, 9, groups=groups)
        part.update(x[start:stop], y[start:stop])
        merged.merge(part)
    assert merged.count == whole.count
    for name in ("mean_x", "mean_y", "gram", "cross", "output_gram"):
        assert close(getattr(merged, name), getattr(whole, name), 1e-6), name
    if groups == 3:
        assert whole.gram.shape == (3, 2, 2) and whole.cross.shape == (3, 2, 3)
        assert close(whole.gram[1], covariance(x[:, 2:4], x[:, 2:4]), 1e-6)
        assert close(whole.cross[2], covariance(x[:, 4:], y[:, 6:]), 1e-6)


def test_a_ridge_by_variance_weighs_each_entry_by_its_own() -> None:
    """Against the normal equations: the loud entry is damped by its variance, the quiet one by the mean."""
    gram = torch.tensor([[100.0, 3.0], [3.0, 1.0]], dtype=torch.float64)
    right = torch.tensor([[50.0], [2.0]], dtype=torch.float64)
    plain = torch.linalg.solve(gram + 0.1 * 50.5 * torch.eye(2), right)
    own = torch.linalg.solve(gram + 0.1 * torch.tensor([100.0, 50.5], dtype=torch.float64).diag(), right)
    assert torch.allclose(solve_gram(gram, right, ridge=0.1), plain, rtol=1e-12)
    assert torch.allclose(solve_gram(gram, right, ridge=0.1, by_variance=True), own, rtol=1e-12)
    few = torch.linalg.solve(gram + 1e-2 * torch.tensor([100.0, 50.5], dtype=torch.float64).diag(), right)
    assert torch.allclose(solve_gram(gram, right, per_unknown=2, by_variance=True), few, rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_wide_moments_equal_the_samples(groups: int) -> None:
    """Of wide inputs only one triangle is summed: G is whole and symmetric all the same, also after merging."""
    x, y = normal(2600, groups * 1100) + 3, normal(2600, groups * 2, seed=1)
    moments, rest = Moments(groups * 1100, groups * 2, groups=groups), Moments(groups * 1100, groups * 2, groups=groups)
    for part, moment in ((slice(0, 700), moments), (slice(700, 1600), moments), (slice(1600, 2600), rest)):
        moment.update(x[part], y[part])
    moments.merge(rest)
    for group, (own_x, own_y) in enumerate(zip(x.chunk(groups, 1), y.chunk(groups, 1), strict=True)):
        gram = moments.gram.reshape(groups, 1100, 1100)[group]
        assert close(gram, covariance(own_x, own_x), 1e-6) and torch.equal(gram, gram.T)
        assert close(moments.cross.reshape(groups, 1100, 2)[group], covariance(own_x, own_y), 1e-6)


def test_moments_refuse_what_does_not_fit() -> None:
    with pytest.raises(GraphError, match="take x of 4"):
        Moments(4).update(torch.zeros(3, 5))
    with pytest.raises(GraphError, match="no samples"):
        _ = Moments(4).gram
    with pytest.raises(GraphError, match="cannot be merged"):
        Moments(4).merge(Moments(5))


def layers() -> dict[str, nn.Module]:
    """The same weights in whatever order the tests run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "plain": nn.Conv2d(4, 6, 3),
            "padded, strided": nn.Conv2d(4, 6, 3, stride=2, padding=1),
            "dilated, oblong": nn.Conv2d(4, 6, (3, 2), dilation=(2, 1), padding=(2, 0), stride=(1, 2)),
            "same": nn.Conv2d(4, 6, (5, 3), padding="same"),
            "reflected": nn.Conv2d(4, 6, 5, padding=2, padding_mode="reflect"),
            "pointwise": nn.Conv2d(4, 6, 1, stride=2, bias=False),
            "grouped": nn.Conv2d(4, 6, 3, padding=1, groups=2),
            "depthwise": nn.Conv2d(4, 8, 3, padding=1, groups=4),
            "rows": nn.Linear(9, 5),
        }


LAYERS = layers()


def one_layer(layer: nn.Module) -> tuple[ReconstructedNetwork, Tensor]:
    x = normal(16, 4, 7, 9) + 1.5
    return capture(nn.Sequential(layer, nn.ReLU()).eval(), x[:2]), x


@pytest.mark.parametrize("name", LAYERS)
def test_patches_are_what_the_layer_sees(name: str) -> None:
    """The identity `W patch + b = y`, at all positions and at sampled ones; borders, strides, dilation and groups included."""
    network, x = one_layer(LAYERS[name])
    linear = linear_map(network, "0")
    assert linear is not None
    y = network.layer("0")(x)
    for per_sample in (None, 3):
        positions = linear.positions(tuple(y.shape), per_sample, torch.Generator().manual_seed(0))
        patches = linear.patches(x, positions).reshape(len(positions), linear.groups, -1)
        weight = linear.weight.reshape(linear.groups, -1, linear.weight.shape[1])
        bias = 0 if linear.bias is None else linear.bias
        made = torch.einsum("rgm,gnm->rgn", patches, weight).flatten(1) + bias
        wanted = linear.responses(y, positions)
        assert len(made) == (len(x) * 3 if per_sample else y.numel() // linear.out_channels)
        assert float((made - wanted).detach().abs().max()) < 1e-5


@pytest.mark.parametrize("name", LAYERS)
def test_collected_moments_equal_the_samples(name: str) -> None:
    """G from all positions; C, Q and the mean response follow from G and the weights."""
    network, x = one_layer(LAYERS[name])
    collected = collect_moments(network, Calibration(x), ["0"], per_sample=64)["0"]
    linear = linear_map(network, "0")
    assert linear is not None
    y = network.layer("0")(x).detach()
    positions = linear.positions(tuple(y.shape), None, torch.Generator())
    patches, responses = linear.patches(x, positions), linear.responses(y, positions)
    assert collected.moments.count == len(patches)
    m, n = linear.weight.shape[1], linear.out_channels // linear.groups
    for group in range(linear.groups):
        own_x, own_y = patches[:, group * m : (group + 1) * m], responses[:, group * n : (group + 1) * n]
        pick = (lambda stacked: stacked) if linear.groups == 1 else (lambda stacked, group=group: stacked[group])
        assert close(pick(collected.gram), covariance(own_x, own_x), 1e-6)
        assert close(pick(collected.cross), covariance(own_x, own_y), 1e-6)
        assert close(pick(collected.output_gram), covariance(own_y, own_y), 1e-6)
    assert close(collected.mean_y, responses.double().mean(0), 1e-6)
    assert moments_bytes(linear) == 8 * linear.groups * m * m


def test_least_squares_from_moments_equal_least_squares_from_samples() -> None:
    network, x = one_layer(LAYERS["padded, strided"])
    collected = collect_moments(network, Calibration(x), ["0"], per_sample=64)["0"]
    kept = torch.arange(36)[torch.arange(36) // 9 != 2]  # without input channel 2
    weight = solve_gram(collected.gram[kept][:, kept], collected.cross[kept], ridge=1e-12)
    linear = linear_map(network, "0")
    assert linear is not None
    positions = linear.positions(tuple(network.layer("0")(x).shape), None, torch.Generator())
    patches = linear.patches(x, positions).double()[:, kept]
    responses = linear.responses(network.layer("0")(x).detach(), positions).double()
    design = torch.cat((patches, torch.ones(len(patches), 1, dtype=torch.float64)), 1)
    reference = torch.linalg.lstsq(design, responses).solution
    assert close(weight, reference[:-1], 1e-5)
    assert close(collected.mean_y - weight.T @ collected.mean_x[kept], reference[-1], 1e-5)


def test_dead_and_dependent_inputs_are_solved_around() -> None:
    x = normal(500, 6)
    x[:, 2] = 0.0
    x[:, 4] = x[:, 5]
    y = x @ normal(6, 3, seed=1)
    moments = Moments(6, 3)
    moments.update(x, y)
    weight = solve_gram(moments.gram, moments.cross)
    assert torch.equal(weight[2], torch.zeros(3, dtype=torch.float64))
    assert close(x.double() @ weight, y.double(), 1e-4)
    with pytest.raises(GraphError, match="not finite"):
        solve_gram(torch.full((2, 2), float("nan"), dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64))


NAMES = ["layer1.0.conv1", "layer1.1.conv2", "layer2.0.conv2", "fc"]


def small() -> tuple[ReconstructedNetwork, Calibration]:
    torch.manual_seed(0)
    network = capture(randomized(SmallResNet()), torch.rand(2, 3, 16, 16))
    return network, Calibration(normal(300, 3, 16, 16))


def test_batches_of_layers_and_other_layers_change_no_bit() -> None:
    network, data = small()
    whole = collect_moments(network, data, NAMES, seed=1)
    largest = max(moments_bytes(linear) for name in NAMES if (linear := linear_map(network, name)))
    seen: list[str] = []
    parts = collect_moments(network, data, NAMES[::-1], seed=1, memory=largest, progress=seen.append)
    assert list(parts) == NAMES[::-1] and sorted(seen) == sorted(NAMES)
    for name in NAMES:
        assert torch.equal(whole[name].gram, parts[name].gram)
    assert not torch.equal(whole[NAMES[0]].gram, collect_moments(network, data, NAMES[:1], seed=2)[NAMES[0]].gram)
    with pytest.raises(SettingsError, match="more than the cap"):
        collect_moments(network, data, NAMES, memory=1000)


def test_pixels_are_sampled_by_need() -> None:
    network, data = small()
    automatic = collect_moments(network, data, NAMES)
    assert automatic["layer1.0.conv1"].moments.count == 300 * 10  # 30 times 72 unknowns, at least 10 of 256 pixels
    assert automatic["layer2.0.conv2"].moments.count == 300 * 15  # 30 times 144 unknowns
    assert automatic["fc"].moments.count == 300
    asked = collect_moments(network, data, NAMES, per_sample=2)
    assert asked["layer1.0.conv1"].moments.count == 300 * 2
    assert asked["layer2.0.conv2"].moments.count == 300 * 64  # a map of 64 pixels is taken whole


@pytest.mark.parametrize(("channels", "drawn"), [(227, 30 * 9 * 227), (228, 15 * 9 * 228)])
def test_wide_patches_get_half_as_many_samples_per_unknown(channels: int, drawn: int) -> None:
    network = capture(nn.Conv2d(channels, 4, 3, padding=1).eval(), torch.zeros(2, channels, 8, 8))
    linear = linear_map(network, network.layer_names[0])
    assert linear is not None
    positions = sampled_positions(linear, (50, 4, 64, 64), 4096, None, 50, torch.Generator())
    assert drawn <= len(positions) < drawn + 50


def test_few_samples_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    network, data = small()
    with caplog.at_level(logging.WARNING):
        collect_moments(network, data.subset(40), NAMES, per_sample=1)
    assert "layer1.0.conv1 (0.6)" in caplog.text and "fc (2.5)" in caplog.text
    assert "layer2.0.conv2" not in caplog.text


def test_the_network_is_not_changed_and_runs_in_eval_mode() -> None:
    network, data = small()
    wanted = collect_moments(network, data, NAMES)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    got = collect_moments(network, data, NAMES)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(torch.equal(wanted[name].gram, got[name].gram) for name in NAMES)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.conv(x)))


def test_a_layer_that_runs_twice_gets_the_samples_of_both_calls() -> None:
    x = normal(20, 3, 6, 6)
    network = capture(Twice().eval(), x[:2])
    collected = collect_moments(network, Calibration(x), ["conv"], per_sample=36)["conv"]
    linear = linear_map(network, "conv")
    assert linear is not None
    positions = linear.positions((20, 3, 6, 6), None, torch.Generator())
    second = F.relu(network.layer("conv")(x)).detach()
    patches = torch.cat((linear.patches(x, positions), linear.patches(second, positions)))
    assert close(collected.gram, covariance(patches, patches), 1e-6)


def test_what_is_no_linear_map_is_refused() -> None:
    network, data = small()
    with pytest.raises(GraphError, match="no linear map"):
        collect_moments(network, data, ["layer1.0.bn1"])
    with pytest.raises(GraphError, match=r"there is no layer `layer1\.0\.conv9`"):
        collect_moments(network, data, ["layer1.0.conv9"])
