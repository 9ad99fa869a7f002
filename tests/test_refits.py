"""What a refit keeps in its run's folder, and whose it is taken for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import amc_plugins as amc
from amc_plugins.compression import Calibration, Run, Target, install, nearest_weights, refit_sequentially
from amc_plugins.core.edit import set_layer
from amc_plugins.core.installing import linear_at
from amc_plugins.core.refits import FittedLayers, refits_kept
from amc_plugins.graph import replace


@pytest.fixture
def network() -> amc.ReconstructedNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)).eval()
    return amc.capture(model, torch.zeros(1, 3, 8, 8))


def test_modules_and_tensors_changed_in_place_come_back_with_the_notes(network: Any, tmp_path: Path) -> None:
    first, norm, last = network.layer_names
    start = network.clone()
    noted: dict[str, Any] = {"before": 1.0}
    kept = FittedLayers(tmp_path, network, noted)
    with kept.keeping(first), torch.no_grad():
        linear = linear_at(network, first)
        set_layer(network, first, linear.rebuilt(2.0 * linear.weight.detach(), linear.bias))
        network.layer(norm).running_mean.add_(1.0)
        noted[first] = 0.25
    again: dict[str, Any] = {}
    assert FittedLayers(tmp_path, start, again).restored([first, last]) == 1
    assert again == {first: 0.25}
    assert all(torch.equal(one, start.state_dict()[name]) for name, one in network.state_dict().items())


def test_a_fit_that_changes_the_structure_keeps_nothing(network: Any, tmp_path: Path) -> None:
    first = network.layer_names[0]
    with FittedLayers(tmp_path, network, {}).keeping(first):
        replace(network, first, [("vn.conv2d", nn.Conv2d(3, 4, 1)), ("vn.conv2d", nn.Conv2d(4, 4, 3))])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["nothing", "weights", "data", "settings", "pixels", "targets", "no notes", "no folder"])
def test_only_the_same_refit_goes_on(change: str, network: Any, tmp_path: Path) -> None:
    data = Calibration([torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(1))])
    plan = amc.prepare(network, "lowrank", calibration=data)
    last = network.layer_names[-1]
    value = network.nodes_of(last)[0].outputs[0]

    def refitted(changed: bool) -> list[str]:
        fitted: list[str] = []
        compressed, used, target = network.clone(), data, Target(value)
        if changed and change == "weights":
            with torch.no_grad():
                compressed.layer(last).weight.add_(0.1)
        if changed and change == "data":
            used = Calibration([torch.ones(32, 3, 8, 8)])
        if changed and change == "targets":
            target = Target(value, channels=torch.arange(5))
        plan.compressor.settings = plan.compressor.settings.model_copy(
            update={"ridge": 0.5 if changed and change == "settings" else 0.01}
        )
        with Run("a test", None if changed and change == "no folder" else tmp_path) as run, refits_kept(run, plan):
            refit_sequentially(
                network,
                compressed,
                used,
                {last: target},
                lambda layer, moments: fitted.append(layer),
                per_sample=3 if changed and change == "pixels" else None,
                noted=None if changed and change == "no notes" else {},
            )
        return fitted

    assert refitted(False) == [last]
    assert refitted(False) == []
    assert refitted(True) == ([] if change == "nothing" else [last])


class Stop(Exception):  # noqa: N818 - a stand-in for whatever ends a process
    pass


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_where_memory_bounds_the_samples_a_stopped_refit_goes_on_with_the_same(stopped: int, tmp_path: Path) -> None:
    """Maps shrink on the way, so that later layers see more samples."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(4))).eval()
    network = amc.capture(model, torch.zeros(1, 4, 64, 64))
    data = Calibration([torch.randn(64, 4, 64, 64, generator=torch.Generator().manual_seed(1))])
    plan = amc.prepare(network, "lowrank", calibration=data)
    targets = {layer: network.nodes_of(layer)[0].outputs[0] for layer in network.layer_names}

    def refitted(folder: Path | None, stop: int | None = None) -> tuple[list[tuple[str, int]], dict[str, torch.Tensor]]:
        compressed, seen = network.clone(), list[tuple[str, int]]()
        with torch.no_grad():
            for layer in targets:
                compressed.layer(layer).weight.mul_(0.9)

        def fit(layer: str, moments: Any) -> None:
            if len(seen) == stop:
                raise Stop
            seen.append((layer, moments.count))
            linear = linear_at(compressed, layer)
            weight, constant, _ = nearest_weights(moments, linear.weight, linear.groups, 1e-6)
            install(compressed, layer, weight, constant)

        with Run("a test", folder) as run, refits_kept(run, plan):
            refit_sequentially(network, compressed, data, targets, fit, per_sample=64, memory=600_000, noted={})
        return seen, dict(compressed.state_dict())

    seen, expected = refitted(None)
    assert len({count for _, count in seen}) > 1, "not all layers see as many"
    with pytest.raises(Stop):
        refitted(tmp_path, stopped)
    again, found = refitted(tmp_path)
    assert again == seen[stopped:]
    assert all(torch.equal(one, found[name]) for name, one in expected.items())
