"""Declares the compressor `pruning` and the handler of its sampler layer. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from amc_plugins.plugin import CompressorSettings, CompressorSpec, LayerHandlerSpec, hookimpl

__all__ = ["PruningSettings"]

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class PruningSettings(CompressorSettings):
    """Settings of `pruning`. Names of the source system where it has them."""

    trainset_ratio: float = Field(1.0, gt=0.0, le=1.0, description="share of the calibration data to use")
    sampled_pixels_per_img: int | None = Field(
        None, ge=1, description="output positions sampled per image and layer; by default as many as the layer's fit needs"
    )
    compress_ratio: Share | dict[str, Share] | None = Field(
        None, description="share of the MACs to remove from each layer, or by layer name or glob; sets a layer's input channels"
    )
    selection: Literal["block_backward", "scalar_backward", "lasso", "magnitude", "random"] = Field(
        "block_backward",
        description="how channels are chosen: backward elimination (exact, of channels with all weights, or of a scale each), "
        "the LASSO path, the consumers' weights, or at random",
    )
    swap_polish: bool = Field(
        False,
        description="when a network is made, exchange kept channels for dropped ones as long as their readers' error falls; "
        "takes a pass over the data for statistics",
    )
    lars_alpha_init: float = Field(
        0.0, ge=0.0, description="`lasso`: the smallest penalty that the LARS path follows; 0 follows all of it"
    )
    round_to: int = Field(1, ge=1, description="layers keep a multiple of so many channels (a group's full width is possible)")
    keep_at_least: float = Field(0.1, gt=0.0, le=1.0, description="share of a group's channels that always stays, at least one")
    shared_inputs: Literal["couple", "sample", "skip"] = Field(
        "couple",
        description="channels that several layers make together (a residual stage): prune them in all of these, let each "
        "reader sample fewer of them, or leave them",
    )
    rotate: bool | None = Field(
        None,
        description="give channels that no activation touches (linear bottlenecks) the basis in which the layers reading them "
        "need fewest; by default with backward elimination",
    )
    steps: int = Field(
        1, ge=1, description="prune in so many steps, choosing the channels again on the refitted network before each"
    )
    ridge: float = Field(1e-6, ge=0.0, description="damping of the least-squares fits, relative to the mean input variance")
    norm_update: bool = Field(
        True, description="at the end, match response variances and re-estimate batch norms where it brings the outputs nearer"
    )

    @model_validator(mode="after")
    def _steps_are_possible(self) -> Self:
        if self.steps > 1 and self.shared_inputs == "sample":
            raise ValueError("several `steps` cannot go on behind samplers: leave `shared_inputs` at `couple` or `skip`")
        if self.steps > 1 and self.swap_polish:
            raise ValueError("`swap_polish` polishes one choice of channels, and several `steps` make several: set one of them")
        return self

    @property
    def rotates(self) -> bool:
        return self.selection.endswith("backward") if self.rotate is None else self.rotate


@hookimpl
def amc_compressors() -> Iterator[CompressorSpec]:
    yield CompressorSpec(
        name="pruning",
        summary="channel pruning with least-squares reconstruction",
        api=(1, 0),
        target="amc_pruning._pruning:Pruning",
        settings=PruningSettings,
    )


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    yield LayerHandlerSpec(
        name="pruning_sampler",
        op="vn.pruning_sampler",
        summary="picks the kept channels of a shared feature map",
        api=(1, 1),
        examples="amc_pruning._examples:examples",
        target="amc_pruning._sampler:PruningSamplerHandler",
        captures=("amc_pruning._sampler.PruningSampler",),
    )
