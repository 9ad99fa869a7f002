"""The verbs of the user's API, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.core.engine import random_inputs
from amc_plugins.core.errors import CheckFailed, SettingsError, UnknownPluginError
from amc_plugins.core.runs import Run
from amc_plugins.plugin import hookimpl
from tests.networks import SmallResNet, TwoInputs, randomized


@pytest.fixture(scope="module")
def network() -> amc.ReconstructedNetwork:
    return amc.capture(randomized(SmallResNet()), torch.zeros(1, 3, 8, 8))


@pytest.fixture(scope="module")
def data() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(128, 3, 8, 8, generator=generator) for _ in range(2)]


class Told:
    """Everything that a run says."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    @hookimpl
    def amc_run_started(self, run: Run) -> None:
        self.heard.append(("started", run.title))

    @hookimpl
    def amc_layer_compressed(self, layer: str, macs: int) -> None:
        self.heard.append((layer, macs))

    @hookimpl
    def amc_artifact_written(self, path: Path) -> None:
        self.heard.append(("written", path))

    @hookimpl
    def amc_run_ended(self, error: BaseException | None) -> None:
        self.heard.append(("ended", error))


def equal(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("method", ["lowrank", "pruning"])
def test_compress_is_prepare_choose_apply(network: amc.ReconstructedNetwork, data: list[Tensor], method: str) -> None:
    before = network.clone()
    random_state = torch.get_rng_state()
    result = amc.compress(network, method, calibration=data, total=0.4)
    assert torch.equal(torch.get_rng_state(), random_state) and equal(network, before)
    assert result.macs_before == amc.profile(network).total_macs
    assert result.macs_after == amc.profile(result.network).total_macs <= 0.6 * result.macs_before
    assert result.removed == 1 - result.macs_after / result.macs_before
    plan = amc.prepare(network, method, calibration=data)
    again = plan.apply(plan.candidate(total=0.4))
    assert again.candidate == result.candidate and equal(again.network, result.network)


@pytest.mark.parametrize("method", ["lowrank", "pruning"])
def test_norms_stay_or_are_folded(network: amc.ReconstructedNetwork, data: list[Tensor], method: str) -> None:
    kept = amc.compress(network, method, calibration=data, total=0.4).network
    result = amc.compress(network, method, calibration=data, total=0.4, fold_norms=True)
    norms = [[node.name for node in one.graph.nodes if "norm" in node.op] for one in (kept, result.network)]
    assert norms[0] and not norms[1]
    assert result.macs_after == amc.profile(result.network).total_macs
    x = data[0][:4]
    with torch.no_grad():
        torch.testing.assert_close(result.network.eval()(x), kept.eval()(x), rtol=1e-4, atol=1e-5)


def test_one_amount_in_four_spellings(network: amc.ReconstructedNetwork, data: list[Tensor]) -> None:
    spelled: list[dict[str, Any]] = [
        {"ratio": 0.5},
        {"ratios": {"*": 0.5}},
        {"compress_ratio": 0.5},
        {"compress_ratio": {"*": 0.5}},
    ]
    results = [amc.compress(network, "pruning", calibration=data, refit=False, **amount) for amount in spelled]
    assert len({one.candidate for one in results}) == 1 and results[0].removed > 0.5


@pytest.mark.parametrize(
    ("amount", "given"),
    [
        ({}, "none"),
        ({"total": 0.5, "ratio": 0.5}, "total, ratio"),
        ({"total": 0.5, "compress_ratio": 0.1}, "total, compress_ratio"),
    ],
)
def test_anything_but_one_amount_is_refused_before_the_work(
    network: amc.ReconstructedNetwork, amount: dict[str, Any], given: str
) -> None:
    def never() -> Any:
        raise AssertionError("the data was read")
        yield

    with pytest.raises(SettingsError, match=rf"exactly one of .* is needed, given: {given}$") as caught:
        amc.compress(network, "pruning", calibration=never(), **amount)
    assert "total=0.5" in (caught.value.hint or "")


def test_a_run_hears_of_every_layer_that_changed(
    network: amc.ReconstructedNetwork, data: list[Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    with Run("work", tmp_path, [told]) as run:
        result = amc.compress(network, "lowrank", calibration=data, ratios={"layer1.*": 0.4}, run=run)
        path = amc.export(result.network, "pkl", tmp_path / "small", run=run)
    changed = [(one.name, one.macs_after) for one in result.layers if one.change]
    assert [name for name, _ in changed] == ["layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2"]
    assert told.heard == [("started", "work"), *changed, ("written", path), ("ended", None)]
    assert f"wrote {path}" in caplog.text and "layer1.1.conv2: error " in caplog.text


def test_train_leaves_the_given_network_alone(network: amc.ReconstructedNetwork) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(32, 3, 8, 8, generator=generator), torch.randint(0, 10, (32,), generator=generator)
    before = network.clone()
    result = amc.train(network, "supervised", train=[batch], epochs=2)
    assert equal(network, before) and not equal(result.network, before)
    assert isinstance(result.network, amc.ReconstructedNetwork) and result.epochs == 2


def test_export_adds_the_suffix_and_load_reads_by_it(network: amc.ReconstructedNetwork, tmp_path: Path) -> None:
    x = random_inputs(network)
    for exporter, suffix in (("pkl", ".pkl"), ("json", ".json"), ("vnmodel", ".vnmodel")):
        path = amc.export(network, exporter, tmp_path / "net")
        assert path == tmp_path / f"net{suffix}" and path.is_file()
        assert torch.equal(amc.load(path).eval()(*x), network(*x))
    with pytest.raises(SettingsError, match=r"`pkl` writes \.pkl, given was `net.json`"):
        amc.export(network, "pkl", tmp_path / "net.json")


def test_export_checks_the_file(network: amc.ReconstructedNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from amc_archive_export._pkl import PklExporter

    read = PklExporter.load

    def wrong(self: Any, path: Path) -> Any:
        loaded = read(self, path)
        with torch.no_grad():
            loaded.layer("fc").bias[3] += 1e-3
        return loaded

    monkeypatch.setattr(PklExporter, "load", wrong)
    with pytest.raises(CheckFailed, match=r"output 0 of the reloaded network differs, by at most 1\.000e-03"):
        amc.export(network, "pkl", tmp_path / "net.pkl")
    amc.export(network, "pkl", tmp_path / "net.pkl", verify=False)


@pytest.mark.parametrize("exporter", ["pkl", "json", "vnmodel"])
def test_export_of_a_network_in_channels_last(data: list[Tensor], tmp_path: Path, exporter: str) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 32, 3))
    network = amc.capture(wide.eval(), torch.zeros(1, 3, 16, 16)).to(memory_format=torch.channels_last)
    amc.export(network, exporter, tmp_path / "a")  # verified: the same bits, whatever kernels round


def test_load_says_what_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(UnknownPluginError, match=r"no installed exporter reads `\.onnx` files; those installed read \.json"):
        amc.load(tmp_path / "net.onnx")
    with pytest.raises(amc.AmcError, match=r"there is no file"):
        amc.load(tmp_path / "net.pkl")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net, data: amc.compress(SmallResNet(), "pruning", calibration=data, total=0.5), "a captured network is needed"),
        (lambda net, data: amc.compress(net, "prunning", calibration=data, total=0.5), "did you mean `pruning`"),
        (lambda net, data: amc.prepare(net, "pruning", calibration=data, selektion="lasso"), "did you mean `selection`"),
        (lambda net, data: amc.prepare(net, "pruning", calibration=[]), "the calibration data is empty"),
        (lambda net, data: amc.train(net, "distilation", train=data), "there is no trainer `distilation`"),
        (lambda net, data: amc.export(SmallResNet(), "pkl", "net.pkl"), "a captured network is needed"),
    ],
)
def test_what_is_refused(network: amc.ReconstructedNetwork, data: list[Tensor], call: Any, words: str) -> None:
    with pytest.raises(amc.AmcError, match=words):
        call(network, data)


def test_random_inputs_have_the_captured_structure() -> None:
    network = amc.capture(TwoInputs().eval(), torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 4, 4))
    a, b = random_inputs(network, seed=3, batch=5)
    assert (a.shape, b.shape) == ((5, 3, 4, 4), (5, 2, 4, 4))
    again = random_inputs(network, seed=3, batch=5)
    assert torch.equal(a, again[0]) and not torch.equal(a[:, :2], b) and abs(float(a.mean())) < 0.5
