"""The trainer `quantization`: grids, ranges, and a result that is an ordinary network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from amc_training import QuantizationTrainer
from amc_training._fake_quantize import FakeQuantize, WeightQuantizer, best_scale, rounded
from amc_training.data import digits
from amc_training.plugin import QuantizationSettings
from torch import nn

import amc_plugins as amc
from amc_plugins.plugin import SettingsError
from amc_plugins.testing import assert_masked_equals_shrunk


@pytest.fixture(scope="module")
def trained() -> amc.ReconstructedNetwork:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
            self.conv2, self.bn2 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
            self.classes = nn.Linear(12 * 16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.bn1(self.conv1(x)).relu()
            x = (x + self.bn2(self.conv2(x))).relu()
            return self.classes(nn.functional.avg_pool2d(x, 2).flatten(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = amc.capture(Net(), torch.zeros(2, 1, 8, 8))
    result = amc.train(net, "supervised", train=digits("train"), validation=digits("validation"), epochs=6, learning_rate=0.05)
    assert isinstance(result.network, amc.ReconstructedNetwork)
    return result.network


def accuracy(network: nn.Module) -> float:
    network.eval()
    with torch.no_grad():
        return sum(int((network(x).argmax(1) == y).sum()) for x, y in digits("test")) / 300


def test_gradients_are_those_of_learned_step_size_quantization() -> None:
    x = torch.tensor([-1.0, 0.26, 0.9, 5.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    y = rounded(x, scale, torch.zeros((), dtype=torch.float64), 0, 3)
    assert y.tolist() == [0.0, 0.5, 1.0, 1.5]
    y.sum().backward()
    assert x.grad is not None and scale.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    by_entry = [0.0, 1 - 0.26 / 0.5, 2 - 0.9 / 0.5, 3.0]  # eq. 3: low, round(v / s) - v / s inside, high
    assert float(scale.grad) == pytest.approx(sum(by_entry) / (4 * 3) ** 0.5)


def test_ranges_of_least_error() -> None:
    values = torch.cat([torch.linspace(-1, 1, 1001), torch.tensor([8.0])]).reshape(1, -1)

    def error(scale: torch.Tensor) -> float:
        return float((rounded(values, scale, torch.zeros(()), -7, 7) - values).square().sum())

    scale, zero = best_scale(values, False, -7, 7)
    assert zero.item() == 0 and error(scale) <= min(error(torch.tensor(8 / 7 * share / 64)) for share in range(1, 65)) + 1e-6
    shifted = torch.linspace(-2, 6, 1000).reshape(1, -1)
    scale, zero = best_scale(shifted, True, 0, 255)
    assert scale.item() == pytest.approx(8 / 255, rel=0.05) and zero.item() == pytest.approx(64, abs=3)
    quantizer = FakeQuantize(8)
    quantizer.start(shifted)
    assert quantizer(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]  # 0 is exact: padding stays padding


@pytest.mark.parametrize("bits", [8, 4])
def test_the_result_is_an_ordinary_network_on_the_grid(bits: int, trained: Any, tmp_path: Path) -> None:
    before = {name: one.clone() for name, one in trained.state_dict().items()}
    settings = QuantizationSettings(epochs=2, weight_bits=bits, activation_bits=bits)
    result = QuantizationTrainer(settings).fit(trained, digits("train"), digits("validation"), seed=1)
    network: Any = result.network
    assert all(torch.equal(one, before[name]) for name, one in trained.state_dict().items())
    assert not [name for name in network.layer_names if name.startswith("bn")]
    assert accuracy(network) >= accuracy(trained) - 0.015
    for name in ("conv1", "conv2", "classes"):
        wide = name != "conv2"  # the ends keep 8 bits
        weight = network.layer(name).weight.detach()
        assert type(network.layer(name)) in (nn.Conv2d, nn.Linear) and weight.requires_grad is False
        per_row = [len(row.unique()) for row in weight.flatten(1)]
        assert max(per_row) <= (255 if wide else 2**bits - 1)
    quantizers = {name: network.layer(name).bits for name in network.layer_names if name.endswith(".input")}
    assert quantizers == {"conv1.input": 8, "conv2.input": bits, "classes.input": 8}
    for suffix in ("pkl", "json", "vnmodel"):
        loaded = amc.load(amc.export(network, suffix, tmp_path / f"net.{suffix}"))
        x = torch.rand(3, 1, 8, 8)
        assert torch.equal(loaded(x), network(x))
    assert_masked_equals_shrunk(network, torch.rand(3, 1, 8, 8))


def test_what_training_computes_is_what_comes_out(trained: Any, loader: Any) -> None:
    result = QuantizationTrainer(QuantizationSettings(epochs=1, weight_bits=3, activation_bits=4)).fit(
        trained, loader(), loader("validation", 100)
    )
    result.network.eval()
    x, y = next(iter(loader("validation", 100, batch_size=100)))
    with torch.no_grad():
        assert float((result.network(x).argmax(1) == y).double().mean()) == pytest.approx(result.metrics["accuracy"])


def test_bins_draw_weights_to_their_levels(trained: Any, loader: Any) -> None:
    def distance(weight: float) -> list[float]:
        settings = QuantizationSettings(epochs=3, weight_bits=3, bin_weight=weight, learning_rate=0.01)
        history = QuantizationTrainer(settings).fit(trained, loader()).history
        return [entry.get("train/bins", float("nan")) for entry in history]

    drawn = distance(1.0)
    assert drawn[-1] < 0.8 * drawn[0]
    assert "nan" in str(distance(0.0)[0])


def test_a_shared_input_is_rounded_once_and_resuming_is_exact(trained: Any, loader: Any, tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
            self.c = nn.Linear(144, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c((self.a(x) + self.b(x)).relu().flatten(1))

    class Run:
        def __init__(self, folder: Path, stop_after: int | None = None) -> None:
            self.folder, self.stop_after = folder, stop_after

        def epoch_ended(self, epoch: int, metrics: Any) -> None:
            if epoch == self.stop_after:
                raise KeyboardInterrupt

        def artifact_written(self, path: Path) -> None: ...

    torch.manual_seed(0)
    net = amc.capture(Two(), torch.zeros(2, 1, 8, 8))

    def fit(run: Run, resume: bool = False) -> Any:
        made = QuantizationTrainer(QuantizationSettings(epochs=3, weight_bits=4))
        return made.fit(net, loader(shuffle=True), loader("validation", 60), seed=2, run=run, resume=resume)

    whole = fit(Run(tmp_path / "whole"))
    assert [name for name in whole.network.layer_names if name.endswith(".input")] == ["a.input", "c.input"]
    with pytest.raises(KeyboardInterrupt):
        fit(Run(tmp_path / "stopped", stop_after=2))
    resumed = fit(Run(tmp_path / "stopped"), resume=True)
    assert resumed.history == whole.history
    for name, one in resumed.network.state_dict().items():
        assert torch.equal(one, whole.network.state_dict()[name])


def test_bad_calls(loader: Any) -> None:
    with pytest.raises(SettingsError, match="needs a captured network, given was a Sequential"):
        QuantizationTrainer(QuantizationSettings()).fit(nn.Sequential(nn.Linear(4, 4)), loader())
    bare = amc.capture(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.zeros(2, 1, 8, 8))
    with pytest.raises(SettingsError, match="there is no convolution or linear layer to quantize"):
        QuantizationTrainer(QuantizationSettings()).fit(bare, loader())
    assert WeightQuantizer(torch.randn(4, 3), 4).range == (-7, 7)
