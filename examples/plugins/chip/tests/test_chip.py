"""The compressor `chip`: the conformance checks, the measure against its definition, and dependent channels that go."""

from __future__ import annotations

import amc_plugins as amc
import pytest
import torch
from amc_plugins.testing import Check, plugin_checks
from torch import nn

from amc_chip._chip import independence


@pytest.mark.parametrize("check", plugin_checks("chip", kind="compressors"))
def test_conformance(check: Check) -> None:
    check()


def test_the_measure_is_the_change_of_the_nuclear_norm() -> None:
    maps = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sample in range(3):
        whole = torch.linalg.matrix_norm(maps[sample], "nuc")
        for channel in range(5):
            masked = maps[sample].clone()
            masked[channel] = 0.0
            expected = whole - torch.linalg.matrix_norm(masked, "nuc")
            assert independence(maps)[sample, channel].item() == pytest.approx(expected.item(), abs=1e-9)


def test_channels_that_follow_from_others_go_first() -> None:
    """Four independent channels, and four times the sum of the first two, small: those go at half of the layer."""
    generator = torch.Generator().manual_seed(0)
    first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    weight = torch.randn(4, 3, 3, 3, generator=generator)
    dependent = (0.2 * (weight[0] + weight[1])).expand(4, 3, 3, 3)
    first.weight.data.copy_(torch.cat([weight, dependent])[[0, 4, 1, 5, 2, 6, 3, 7]])
    model = nn.Sequential(first, nn.Conv2d(8, 2, 1)).eval()
    images = torch.randn(16, 3, 8, 8, generator=generator)
    network = amc.capture(model, images)
    result = amc.compress(network, "chip", calibration=[images], ratios={"1": 0.5})
    assert torch.equal(result.network.layer("0").weight, first.weight[::2])
