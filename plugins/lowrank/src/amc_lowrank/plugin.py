"""Declares the compressor `lowrank`. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from amc_plugins.plugin import CompressorSettings, CompressorSpec, hookimpl

__all__ = ["LowRankSettings"]

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class LowRankSettings(CompressorSettings):
    """Settings of `lowrank`. Names of the source system where it has them."""

    trainset_ratio: float = Field(1.0, gt=0.0, le=1.0, description="share of the calibration data to use")
    sampled_pixels_per_img: int | None = Field(
        None, ge=1, description="output positions sampled per image and layer; by default as many as the layer's fit needs"
    )
    compress_ratio: Share | dict[str, Share] | None = Field(
        None, description="share of the MACs to remove from each layer, or by layer name or glob"
    )
    scheme: Literal["auto", "spatial", "channel", "tucker2"] = Field(
        "auto",
        description="spatial: k x 1 and 1 x k; channel: k x k with fewer filters and 1 x 1; tucker2: 1 x 1, k x k, 1 x 1; "
        "auto: per layer and rank what has the least error for its MACs. 1 x 1 convolutions and linear layers become two "
        "factors in each",
    )
    solver: Literal["rrr", "gsvd", "svd"] = Field(
        "rrr",
        description="of `channel`: reduced-rank regression with free first filters; the source system's asymmetric GSVD of the "
        "responses (first filters span the given ones); or their principal components",
    )
    metric: Literal["fisher", "plain"] = Field(
        "fisher",
        description="how errors of responses count: by what they do to the outputs (Fisher information, backward passes, no "
        "labels), or all alike behind the batch norm",
    )
    choices: int = Field(48, ge=2, le=256, description="ranks per layer and scheme to choose from")
    ridge: float = Field(
        1e-2,
        ge=0.0,
        description="how strongly the final fits (`rrr`, and of layers that are not decomposed) keep weights where they were: "
        "relative to an input's variance, or to the mean one if that is larger",
    )
    norm_update: bool = Field(
        True, description="after the refit, match means and variances of responses where that brings the outputs nearer"
    )
    nonlinear_case: bool = Field(
        False,
        description="in the final fit, fit responses through the ReLU or ReLU6 that follows (behind a batch norm too): what it "
        "clips is free; a response keeps the linear fit where that is better on samples not fitted",
    )


@hookimpl
def amc_compressors() -> Iterator[CompressorSpec]:
    yield CompressorSpec(
        name="lowrank",
        summary="low-rank decomposition fitted on calibration data",
        api=(1, 0),
        target="amc_lowrank._lowrank:LowRank",
        settings=LowRankSettings,
    )
