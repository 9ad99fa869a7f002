"""What a refit keeps in its run's folder, and whose it is taken for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import amc_plugins as amc
from amc_plugins.compression import Calibration, Run, Target, refit_sequentially
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
