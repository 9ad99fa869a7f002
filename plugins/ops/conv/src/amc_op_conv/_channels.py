"""What all convolutions share: their channel rules, the weights that stay, and their parameters per spatial axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from amc_plugins.handlers import Call, ChannelIds, LayerHandler, Params
from amc_plugins.plugin import GraphError

__all__ = ["Amounts", "ConvHandler", "ConvParams", "Sizes", "kept_weight", "per_axis", "taken"]

Sizes = list[PositiveInt]
"""One per spatial axis, each at least 1."""
Amounts = list[NonNegativeInt]
"""One per spatial axis, each at least 0."""


class ConvParams(Params):
    """What all convolutions have. What is given for one axis holds for all."""

    rank: ClassVar[int] = 2
    """The number of spatial axes."""
    spatial: ClassVar[tuple[str, ...]] = ("kernel_size", "stride", "padding", "dilation")
    """The fields with a value per spatial axis."""
    in_channels: PositiveInt
    out_channels: PositiveInt
    kernel_size: Sizes
    stride: Sizes = Field([1])
    dilation: Sizes = Field([1])
    groups: PositiveInt = 1
    bias: bool = True

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        defaults = {name: cls.model_fields[name].default for name in cls.spatial if name not in given and name != "kernel_size"}
        return {name: per_axis(one, cls.rank) if name in cls.spatial else one for name, one in {**defaults, **given}.items()}

    @model_validator(mode="after")
    def _one_per_axis(self) -> ConvParams:
        for name in self.spatial:
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != self.rank:
                raise ValueError(f"`{name}` has {len(value)} values, expected was one for each of {self.rank} spatial axes")
        return self


def per_axis(value: Any, rank: int) -> Any:
    """A value per spatial axis, from what torch takes: one for all, a list of one, or a list of `rank`."""
    if isinstance(value, str):
        return value
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items * rank if len(items) == 1 else items


def taken(call: Call, bound: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weight and, if there is one, the bias of a functional call."""
    found = {name: call.take(bound[name]) for name in ("weight", "bias")}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


class ConvHandler(LayerHandler):
    """A convolution over `rank` spatial axes of (N, C, ...) or (C, ...); its `groups` groups have a inputs and b outputs each.

    - One group: the layer makes its output channels.
    - One input per group (depthwise, with or without a multiplier): output channels live and die with their input channel.
    - Else position j of all groups is one channel, among the inputs as among the outputs: any choice leaves the groups equal.
    """

    rank: ClassVar[int] = 2

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        axis = inputs[0].dim() - self.rank - 1
        groups = params.groups
        spatial = range(axis + 1, inputs[0].dim())
        incoming = ids.channels(ids.mixed(inputs[0], spatial, f"{self.spec.op} takes windows over them"), axis)
        if groups == 1:
            return ids.new(params.out_channels, axis=axis)
        if groups == params.in_channels:
            outgoing = incoming.repeat_interleave(params.out_channels // groups)
            return outgoing.view(-1, *[1] * self.rank).expand(ids.output_shapes[0])
        ids.tie(*incoming.view(groups, -1).unbind())
        made = ids.new(params.out_channels, axis=axis)
        ids.tie(*ids.channels(made, axis).view(groups, -1).unbind())
        return made


def kept_weight(weight: Tensor, groups: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, int]:
    """The kept part of a weight of shape (rows, columns / groups, ...), and the number of groups left.

    Groups of which nothing is kept disappear; the others must keep equally many rows and equally many columns.

    Args:
        rows: kept positions on axis 0, ascending (outputs of a convolution, inputs of a transposed one).
        columns: kept positions among the channels that axis 1 has a group's share of, ascending.

    Raises:
        GraphError: the groups would differ.
    """
    # The weight may be without data (the meta device), so nothing is computed from indices there.
    if groups == 1:
        for axis, index in enumerate((rows, columns)):
            if len(index) != weight.shape[axis]:
                weight = weight.index_select(axis, index.to(weight.device))
        return weight, 1
    per_group = weight.shape[1]
    row_groups, column_groups = rows // (weight.shape[0] // groups), columns // per_group
    left = row_groups.unique()
    if not (_even(row_groups, left) and _even(column_groups, left)):
        raise GraphError(
            f"of the {groups} groups of a convolution {_count(row_groups, groups)} channels would stay on one side and "
            f"{_count(column_groups, groups)} on the other, expected were equal counts in every group",
            hint="choose whole channels of its channel groups (`channel_map(network).groups`): they keep grouped layers even",
        )
    local = (columns % per_group).view(len(left), -1).repeat_interleave(len(rows) // len(left), dim=0)
    return weight[rows[:, None].to(weight.device), local.to(weight.device)], len(left)


def _even(groups: Tensor, left: Tensor) -> bool:
    """Whether the ascending `groups` has each of `left` equally often and no other."""
    return len(groups) % len(left) == 0 and torch.equal(groups, left.repeat_interleave(len(groups) // len(left)))


def _count(groups: Tensor, total: int) -> list[int]:
    return groups.bincount(minlength=total).tolist()
