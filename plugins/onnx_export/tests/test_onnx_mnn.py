"""The way from the .onnx file to MNN: the wheel's compiled converter, then its interpreter. Optional: `pip install MNN`.

Never the wheel's script `mnnconvert`: it installs packages with the first `pip` that it finds, and logs to a remote service.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.zoo.test_zoo import case

NETWORKS = ("mobilenet_v2", "resnet", "shufflenet_v2", "vgg")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees(name: str, agrees: Callable[..., Any], tmp_path: Path) -> None:
    mnn, tools = pytest.importorskip("MNN"), pytest.importorskip("_tools")
    zoo, model, network, _ = case(name)
    (x,) = zoo.inputs(1)
    agrees(network, x, batch=1)
    paths = ["--modelFile", str(tmp_path / "a.onnx"), "--MNNModel", str(tmp_path / "a.mnn")]
    assert tools.mnnconvert(["mnnconvert", "-f", "ONNX", *paths, "--bizCode", "amc"])
    interpreter = mnn.Interpreter(str(tmp_path / "a.mnn"))
    session = interpreter.createSession({"precision": "high", "numThread": 1})

    def tensor(array: np.ndarray[Any, Any]) -> Any:
        return mnn.Tensor(array.shape, mnn.Halide_Type_Float, array, mnn.Tensor_DimensionType_Caffe)

    interpreter.getSessionInput(session).copyFrom(tensor(x.numpy()))
    interpreter.runSession(session)
    output = interpreter.getSessionOutput(session)
    found = tensor(np.zeros(output.getShape(), np.float32))
    output.copyToHostTensor(found)
    given = torch.from_numpy(np.array(found.getNumpyData())).reshape(output.getShape())
    with torch.no_grad():
        expected = model(x)
    assert float((given - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
