"""A preparation that was stopped goes on at its layer, with the same bits; the run hears of every layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import amc_plugins as amc
from amc_plugins.compression import Run
from amc_plugins.core.preparation import forget
from amc_plugins.plugin import hookimpl
from tests.networks import SmallResNet, randomized

METHODS = ("pruning", "lowrank", "mixed")


class Stop(Exception):  # noqa: N818 - a stand-in for whatever ends a process
    pass


class Ears:
    """Hears of prepared layers, and stops the work after some of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.heard: list[tuple[str, int, int]] = []
        self.stop_after = stop_after

    @hookimpl
    def amc_layer_prepared(self, layer: str, done: int, count: int) -> None:
        self.heard.append((layer, done, count))
        if self.stop_after is not None and len(self.heard) == self.stop_after:
            raise Stop


@pytest.fixture
def network() -> amc.ReconstructedNetwork:
    return amc.capture(randomized(SmallResNet()), torch.zeros(1, 3, 8, 8))


@pytest.fixture
def data() -> list[Tensor]:
    return [torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))]


def prepared(network: Any, method: str, data: Any, folder: Path | None, ears: Ears, **settings: Any) -> Any:
    with Run("a test", folder, [ears]) as run:
        return amc.prepare(network, method, calibration=data, run=run, **settings)


def compressed(network: Any, method: str, data: Any, folder: Path | None, **settings: Any) -> Any:
    with Run("a test", folder) as run:
        return amc.compress(network, method, calibration=data, total=0.4, run=run, **settings)


class Fitted(list[str]):
    """The layers whose moments a refit collects; at one of them it stops."""

    stop_before: int | None = None


def _fitted(monkeypatch: pytest.MonkeyPatch) -> Fitted:
    from amc_plugins.core import sequential

    seen, genuine = Fitted(), sequential._moments_at

    def listening(visit: Any, *options: Any) -> Any:
        if len(seen) == seen.stop_before:
            raise Stop
        seen.append(visit.layer)
        return genuine(visit, *options)

    monkeypatch.setattr(sequential, "_moments_at", listening)
    return seen


def weights(plan: Any) -> dict[str, Tensor]:
    result = plan.apply(plan.candidate(total=0.4))
    return dict(result.network.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_preparation_goes_on_at_its_layer(
    method: str, network: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Ears()
    expected = weights(prepared(network, method, data, None, whole))
    count = len(whole.heard)
    assert count >= 3 and whole.heard[0][1] == 1 and whole.heard[-1][1] == whole.heard[-1][2]
    stopped = count - 1
    with pytest.raises(Stop):
        prepared(network, method, data, tmp_path, Ears(stop_after=stopped))
    before = set(tmp_path.glob("prepared/*/*.pickle"))
    work = _counted(monkeypatch)
    again = Ears()
    assert same(weights(prepared(network, method, data, tmp_path, again)), expected)
    assert again.heard == whole.heard
    after = set(tmp_path.glob("prepared/*/*.pickle"))
    assert before < after and len(after - before) == 1 == work["parts"]


@pytest.mark.parametrize(
    ("method", "options"),
    [("pruning", {}), ("pruning", {"steps": 2}), ("lowrank", {}), ("lowrank", {"nonlinear_case": True}), ("mixed", {})],
)
def test_a_stopped_refit_goes_on_at_its_layer(
    method: str, options: dict[str, Any], network: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = _fitted(monkeypatch)
    expected = compressed(network, method, data, None, **options)
    order = [*fitted]
    assert len(order) >= 4
    fitted.clear()
    stopped = len(order) - 2
    fitted.stop_before = stopped
    with pytest.raises(Stop):
        compressed(network, method, data, tmp_path, **options)
    assert fitted == order[:stopped]
    fitted.clear()
    fitted.stop_before = None
    again = compressed(network, method, data, tmp_path, **options)
    assert fitted == order[stopped:]
    assert same(dict(again.network.state_dict()), dict(expected.network.state_dict()))
    assert again.network.graph == expected.network.graph
    assert again.layers == expected.layers


def _counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    from amc_plugins.core import preparation

    work = {"parts": 0}
    genuine = preparation.atomic_write

    def counting(path: Path, **options: Any) -> Any:
        work["parts"] += path.suffix == ".pickle"
        return genuine(path, **options)

    monkeypatch.setattr(preparation, "atomic_write", counting)
    return work


@pytest.mark.parametrize("change", ["weights", "data", "settings", "seed"])
def test_what_belongs_to_other_work_is_not_taken(
    change: str, network: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(network, "pruning", data, tmp_path, Ears())
    parts = len(set(tmp_path.glob("prepared/*/*.pickle")))
    work = _counted(monkeypatch)
    prepared(network, "pruning", data, tmp_path, Ears())
    assert work["parts"] == 0
    options: dict[str, Any] = {}
    if change == "weights":
        with torch.no_grad():
            next(network.parameters()).add_(0.01)
    elif change == "data":
        data = [data[0] + 0.01]
    elif change == "settings":
        options = {"ridge": 1e-5}
    else:
        options = {"seed": 1}
    prepared(network, "pruning", data, tmp_path, Ears(), **options)
    assert work["parts"] == parts


def test_a_run_without_a_folder_keeps_nothing_and_a_finished_one_forgets(network: Any, data: Any, tmp_path: Path) -> None:
    prepared(network, "pruning", data, None, Ears())
    assert not list(tmp_path.iterdir())
    prepared(network, "pruning", data, tmp_path, Ears())
    assert (tmp_path / "prepared").is_dir()
    forget(tmp_path)
    assert not (tmp_path / "prepared").exists()
    forget(tmp_path)
