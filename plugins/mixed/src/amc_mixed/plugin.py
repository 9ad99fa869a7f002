"""Declares the compressor `mixed`. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from amc_plugins.plugin import CompressorSettings, CompressorSpec, hookimpl

__all__ = ["MixedSettings"]

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class MixedSettings(CompressorSettings):
    """Settings of `mixed`; the two methods have tables of their own."""

    trainset_ratio: float = Field(1.0, gt=0.0, le=1.0, description="share of the calibration data to use")
    sampled_pixels_per_img: int | None = Field(
        None, ge=1, description="output positions sampled per image and layer; by default as many as the layer's fit needs"
    )
    compress_ratio: Share | dict[str, Share] | None = Field(
        None,
        description="share of the MACs to remove from each layer, or by layer name or glob: by decomposition, and where a "
        "layer cannot be decomposed by pruning its inputs",
    )
    pruning: dict[str, Any] = Field(default_factory=dict, description="settings of `pruning`: `amc plugins show pruning`")
    lowrank: dict[str, Any] = Field(default_factory=dict, description="settings of `lowrank`: `amc plugins show lowrank`")
    choices: int = Field(24, ge=1, le=256, description="decompositions of a layer to choose from")
    ridge: float = Field(1e-6, ge=0.0, description="damping of the least-squares fits, relative to the mean input variance")
    norm_update: bool = Field(
        True, description="at the end, match response variances and re-estimate batch norms where it brings the outputs nearer"
    )


@hookimpl
def amc_compressors() -> Iterator[CompressorSpec]:
    yield CompressorSpec(
        name="mixed",
        summary="channel pruning, then low-rank decomposition of what is left, under one budget",
        api=(1, 0),
        target="amc_mixed._mixed:Mixed",
        settings=MixedSettings,
    )
