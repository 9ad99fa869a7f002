"""Declaration of the exporter `onnx`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from amc_plugins.plugin import ExporterSpec, Settings, hookimpl

__all__ = ["OnnxSettings"]

_Size = Annotated[int, Field(ge=1, lt=2**31)]


class OnnxSettings(Settings):
    """Settings of the `onnx` exporter."""

    batch: _Size | None = Field(
        None, description="a fixed batch size; None leaves it open where the network's is (converters for phones want 1)"
    )
    image_size: tuple[_Size, _Size] | Literal["recorded", "dynamic"] = Field(
        "recorded", description="height and width of inputs (N, C, H, W): as recorded, two numbers, or `dynamic` for open ones"
    )
    fold_norms: bool = Field(True, description="fold batch norms into the layers in front of them")


@hookimpl
def amc_exporters() -> Iterable[ExporterSpec]:
    yield ExporterSpec(
        name="onnx",
        summary="ONNX (opset 18) for ONNX Runtime, ncnn, MNN and others; checked against ONNX Runtime",
        api=(1, 1),
        target="amc_onnx_export._exporter:OnnxExporter",
        settings=OnnxSettings,
        suffixes=(".onnx",),
        engines={"onnxruntime": "amc_onnx_export._engines:OnnxRuntime", "ncnn": "amc_onnx_export._ncnn:Ncnn"},
    )
