"""What the tests of this distribution share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_onnx_export import _run
from amc_onnx_export._exporter import OnnxExporter
from amc_onnx_export.plugin import OnnxSettings
from torch import Tensor, nn

import amc_plugins as amc

torch.set_num_threads(1)


class Called(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


@pytest.fixture
def agrees(tmp_path: Path) -> Callable[..., OnnxExporter]:
    """Capture a call, export it, and compare ONNX Runtime with PyTorch: on the example, on other batches, on `more`."""

    def check(call: Any, *inputs: Any, more: tuple[Any, ...] = (), **settings: Any) -> OnnxExporter:
        network = call
        if not isinstance(call, amc.ReconstructedNetwork):
            network = amc.capture(call.eval() if isinstance(call, nn.Module) else Called(call), *inputs)
        exporter, path = OnnxExporter(OnnxSettings(**settings)), tmp_path / "a.onnx"
        exporter.export(network, path)
        exporter.verify(path, network, inputs)
        if network.graph.inputs[0].shape[:1] == [None]:
            for batch in (1, 5):
                _run.compare(path, network, [batched(one, batch) for one in inputs])
        for others in more:
            _run.compare(path, network, others)
        return exporter

    return check


def batched(value: Any, batch: int) -> Any:
    """The tensors of a structure with another number of samples."""
    if isinstance(value, Tensor):
        return value[torch.arange(batch) % len(value)]
    if isinstance(value, dict):
        return {key: batched(item, batch) for key, item in value.items()}
    return [batched(item, batch) for item in value] if isinstance(value, list | tuple) else value
