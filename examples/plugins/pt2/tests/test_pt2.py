"""The exporter `pt2`: the conformance checks, and files that torch runs alone, in any batch size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import amc_plugins as amc
import pytest
import torch
from amc_plugins.testing import Check, plugin_checks
from torch import nn


@pytest.mark.parametrize("check", plugin_checks("pt2", kind="exporters"))
def test_conformance(check: Check) -> None:
    check()


def network() -> amc.ReconstructedNetwork:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3)).eval()
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return amc.capture(model, torch.rand(2, 1, 6, 6))


RUN = """
import sys, torch
module = torch.export.load(sys.argv[1]).module()
torch.save(module(torch.load(sys.argv[2])), sys.argv[3])
assert not any(name.startswith("amc") for name in sys.modules)
"""


def test_torch_runs_it_alone_in_another_batch_size(tmp_path: Path) -> None:
    one, images = network(), torch.rand(7, 1, 6, 6)
    path = amc.export(one, "pt2", tmp_path / "network")
    torch.save(images, tmp_path / "images.pt")
    command = [sys.executable, "-c", RUN, str(path), str(tmp_path / "images.pt"), str(tmp_path / "out.pt")]
    subprocess.run(command, check=True, timeout=120)
    assert torch.allclose(torch.load(tmp_path / "out.pt"), one(images), atol=1e-6)


def test_a_fixed_batch(tmp_path: Path) -> None:
    path = amc.export(network(), "pt2", tmp_path / "network", dynamic_batch=False)
    module = torch.export.load(path).module()
    assert module(torch.rand(2, 1, 6, 6)).shape == (2, 3)
    with pytest.raises(Exception, match="batch|shape|size|Guard|guard"):
        module(torch.rand(7, 1, 6, 6))
