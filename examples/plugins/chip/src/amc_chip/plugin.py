"""Declares the compressor `chip`. Free of torch: it is imported by listings."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import CompressorSettings, CompressorSpec, hookimpl
from pydantic import Field


class ChipSettings(CompressorSettings):
    """Settings of `chip`."""

    keep_at_least: float = Field(0.1, gt=0.0, le=1.0, description="share of a group's channels that always stays, at least one")
    samples: int = Field(64, ge=1, description="calibration samples whose feature maps are looked at")


@hookimpl
def amc_compressors() -> Iterator[CompressorSpec]:
    yield CompressorSpec(
        name="chip",
        summary="channel pruning by the independence of feature maps (Sui et al., NeurIPS 2021)",
        api=(1, 1),
        target="amc_chip._chip:Chip",
        settings=ChipSettings,
    )
