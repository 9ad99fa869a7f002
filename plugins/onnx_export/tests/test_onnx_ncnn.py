"""The way from the .onnx file to ncnn: `pnnx` converts it, the wheel `ncnn` runs it. Optional: `pip install pnnx ncnn`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from amc_plugins.exporting import MissingEngineError
from tests.zoo.test_zoo import case

NETWORKS = ("mobilenet_v2", "resnet", "shufflenet_v2", "vgg")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees(name: str, agrees: Callable[..., Any], tmp_path: Path) -> None:
    from amc_onnx_export._ncnn import Ncnn

    zoo, model, network, _ = case(name)
    (x,) = zoo.inputs(1)
    agrees(network, x, **Ncnn.settings(1))
    try:
        engine = Ncnn(tmp_path / "a.onnx", 1)
    except MissingEngineError as missing:
        pytest.skip(str(missing))
    (given,) = engine([x.numpy()])
    with torch.no_grad():
        expected = model(x)
    assert float((torch.from_numpy(given) - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
