"""Declares the exporter `pt2`. Free of torch: it is imported by listings."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import ExporterSpec, Settings, hookimpl
from pydantic import Field


class Pt2Settings(Settings):
    """Settings of `pt2`."""

    dynamic_batch: bool = Field(True, description="leave the number of samples open, where the network does")
    tolerance: float = Field(
        1e-5, ge=0.0, description="largest difference of outputs that `verify` accepts, relative to the largest"
    )


@hookimpl
def amc_exporters() -> Iterator[ExporterSpec]:
    yield ExporterSpec(
        name="pt2",
        summary="an archive of torch.export (.pt2), which runs without amc-plugins",
        api=(1, 1),
        target="amc_pt2._pt2:Pt2Exporter",
        settings=Pt2Settings,
        suffixes=(".pt2",),
        loads=True,
    )
