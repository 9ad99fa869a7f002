"""Declarations of the exporters `pkl` and `json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from amc_plugins.plugin import ExporterSpec, Settings, hookimpl

__all__ = ["JsonSettings", "PklSettings"]


class PklSettings(Settings):
    """The `.pkl` exporter has no settings."""


class JsonSettings(Settings):
    """Settings of the `.json` exporter."""

    tensors: Literal["base64", "none"] = Field(
        "base64", description="`base64` keeps every tensor exactly; `none` writes the graph alone, which cannot be loaded back"
    )
    indent: int = Field(2, ge=0, le=8, description="spaces per level")


@hookimpl
def amc_exporters() -> Iterable[ExporterSpec]:
    yield ExporterSpec(
        name="pkl",
        summary="torch archive that loads with weights_only=True and needs none of the user's classes",
        api=(1, 0),
        target="amc_archive_export._pkl:PklExporter",
        settings=PklSettings,
        suffixes=(".pkl",),
        loads=True,
    )
    yield ExporterSpec(
        name="json",
        summary="readable JSON: the graph with plain parameters, tensors exact as base64",
        api=(1, 0),
        target="amc_archive_export._json:JsonExporter",
        settings=JsonSettings,
        suffixes=(".json",),
        loads=True,
    )
