"""`PruningSampler`: the gather that lets one consumer read fewer channels of a feature map that others read whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from amc_plugins.handlers import ChannelIds, Kept, LayerHandler, Shape
from amc_plugins.handlers import Params as BaseParams
from amc_plugins.plugin import SettingsError

__all__ = ["PruningSampler", "PruningSamplerHandler"]


class PruningSampler(nn.Module):
    """Takes (N, channels, ...) to (N, kept, ...): the channels at `index`, in that order.

    He, Zhang and Sun (ICCV 2017), section 3.3: what the first convolution of a residual branch reads of the shared feature map.

    Args:
        channels: of the input.
        index: kept positions, each below `channels`.

    Raises:
        SettingsError: `index` is empty, not one-dimensional, or out of range.
    """

    index: Tensor

    def __init__(self, channels: int, index: Tensor | Sequence[int]) -> None:
        super().__init__()
        positions = torch.as_tensor(index, dtype=torch.long).detach().clone()
        # On the meta device, where readers of files check shapes, a tensor has no entries to look at.
        entries = positions.tolist() if not positions.is_meta else [] if isinstance(index, Tensor) else list(index)
        if positions.dim() != 1 or len(positions) == 0 or not all(0 <= one < channels for one in entries):
            raise SettingsError(f"a sampler of {channels} channels needs positions from 0 to {channels - 1}; given was {index}")
        self.channels = channels
        self.register_buffer("index", positions, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index)

    def extra_repr(self) -> str:
        return f"{self.channels} -> {len(self.index)}"


class PruningSamplerHandler(LayerHandler):
    """`vn.pruning_sampler`: a gather on axis 1. The index is a parameter, since channel identity depends on it."""

    class Params(BaseParams):
        channels: PositiveInt
        index: Annotated[list[NonNegativeInt], Field(min_length=1)]

    module_class = PruningSampler

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return self.Params(channels=one.channels, index=one.index.tolist())

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        batch, _, *rest = inputs[0]
        return [(batch, len(params.index), *rest)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0].index_select(1, torch.tensor(params.index))

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        given, made = inputs[0].axis(1), outputs[0].axis(1)
        wanted = one.index.cpu()[made]
        return PruningSampler(len(given), torch.searchsorted(given, wanted))
