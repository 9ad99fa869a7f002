"""Declaration of the exporter `vnmodel`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from amc_plugins.plugin import ExporterSpec, Settings, hookimpl

__all__ = ["VnModelSettings"]

_Pixels = Annotated[int, Field(ge=1, lt=2**31)]


class VnModelSettings(Settings):
    """Settings of the `vnmodel` exporter, an open format of this project (it is not Huya's Venus format)."""

    model_base_size_hw: tuple[_Pixels, _Pixels] | None = Field(
        None, description="height and width the model is meant for; None takes those of the recorded input"
    )
    model_id: int = Field(0, ge=0, lt=2**32, description="a number for the application's own use")
    metadata: dict[str, str] = Field(default_factory=dict, description="texts to keep in the file, by key")
    storage: Literal["float32", "float16", "int8"] = Field(
        "float32",
        description="how float32 weights are kept: as they are; as float16 (half the bytes); as int8 with a scale per output "
        "channel (a quarter); the network that is loaded computes in float32 with the rounded values",
    )
    fold_norms: bool = Field(False, description="make batch norms part of the layers in front of them, as for deployment")
    align: Literal[64, 4096] = Field(64, description="where the tensor data starts: 64 for cache lines, 4096 for memory pages")


@hookimpl
def amc_exporters() -> Iterable[ExporterSpec]:
    yield ExporterSpec(
        name="vnmodel",
        summary="one self-describing file: this project's own open format, not Huya's Venus format",
        api=(1, 1),
        target="amc_venus_export._exporter:VnModelExporter",
        settings=VnModelSettings,
        suffixes=(".vnmodel",),
        loads=True,
        engines={"venus": "amc_venus_export._engine:VenusRuntime"},
    )
