"""Every network of the small zoo, whole and with half of its channels gone, agrees with PyTorch in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from amc_plugins.testing import random_removal
from tests.zoo.test_zoo import NETWORKS, case

DEPENDS_ON_THE_SIZE = {"efficientnet"}
"""Networks that refuse the other size themselves: a branch of theirs depends on it."""


@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_in_other_batches(name: str, agrees: Callable[..., Any]) -> None:
    zoo, _, network, _ = case(name)
    agrees(network, *zoo.inputs(2), more=(zoo.inputs(3),))


@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_with_half_of_the_channels_gone(name: str, agrees: Callable[..., Any]) -> None:
    zoo, _, _, channels = case(name)
    agrees(channels.shrink(random_removal(channels, seed=1)), *zoo.inputs(2), more=(zoo.inputs(3),))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in DEPENDS_ON_THE_SIZE])
def test_agrees_in_other_sizes(name: str, agrees: Callable[..., Any]) -> None:
    zoo, _, network, _ = case(name)
    if zoo.OTHER_SIZE is None:
        pytest.skip("the network has one size")
    agrees(network, *zoo.inputs(2), more=(zoo.inputs(2, zoo.OTHER_SIZE),), image_size="dynamic")


def test_a_fixed_batch_and_size_leave_nothing_to_compute(agrees: Callable[..., Any], tmp_path: Any) -> None:
    """What converters for phones want: shapes are literal."""
    import onnx

    zoo, _, network, _ = case("swin")
    agrees(network, *zoo.inputs(1), batch=1)
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "a.onnx")).graph.node}
    assert not kinds & {"Shape", "Range", "Size"}
