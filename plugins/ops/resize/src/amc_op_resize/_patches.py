"""Patches as columns (`unfold`), columns as patches (`fold`), and channels in another order (`channel_shuffle`)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from amc_op_resize import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ChannelShuffleHandler", "FoldHandler", "UnfoldHandler"]

Pair = int | list[int]


class UnfoldParams(Params):
    """As in `torch.nn.Unfold`."""

    kernel_size: Pair
    dilation: Pair = 1
    padding: Pair = 0
    stride: Pair = 1


class FoldParams(UnfoldParams):
    """As in `torch.nn.Fold`."""

    output_size: Int | list[Int]


class ChannelShuffleParams(Params):
    """As in `torch.nn.ChannelShuffle`."""

    groups: int


class _PatchesHandler(LayerHandler):
    first: ClassVar[tuple[str, ...]] = ()
    """Arguments before the kernel's size."""

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self.build(self.params(call.original), {})
        bound = call.bind("input", *self.first, "kernel_size", dilation=1, padding=0, stride=1)
        del bound["input"]
        for name, value in bound.items():
            kinds: Any = Int if name in self.first else int
            if not all(isinstance(one, kinds) for one in (value if isinstance(value, list | tuple) else [value])):
                raise Declined(f"{call.target} with {value!r} for `{name}`")
        assert self.module_class is not None
        return self.module_class(**bound)

    @staticmethod
    def taps(params: Any) -> int:
        """The number of positions of a kernel."""
        size = params.kernel_size
        return size * size if isinstance(size, int) else prod(size)


class UnfoldHandler(_PatchesHandler):
    """The rows of one channel's patch share its fate."""

    Params = UnfoldParams
    module_class: ClassVar[type[nn.Module] | None] = nn.Unfold

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = ids.mixed(inputs[0], [-1, -2], f"{self.spec.op} takes patches of them")
        return given.squeeze(-1).repeat_interleave(self.taps(params), -2).expand(ids.output_shapes[0])


class FoldHandler(_PatchesHandler):
    """The rows that become one channel are tied."""

    Params = FoldParams
    module_class = _modules.Fold
    first = ("output_size",)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = ids.mixed(inputs[0], [-1], f"{self.spec.op} adds patches of them")
        rows = given.unflatten(-2, (-1, self.taps(params))).unbind(-2)
        return ids.tie(*rows).unsqueeze(-1).expand(ids.output_shapes[0])


class ChannelShuffleHandler(LayerHandler):
    """Position j of all groups is one channel, so that the groups stay equal."""

    Params = ChannelShuffleParams
    module_class = _modules.ChannelShuffle

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return _modules.ChannelShuffle(call.original.groups)  # type: ignore[arg-type]
        groups = call.bind("input", "groups")["groups"]
        if not isinstance(groups, int):
            raise Declined(f"{call.target} with a computed number of groups")
        return _modules.ChannelShuffle(groups)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (given,) = inputs
        groups = ids.channels(given, 1).view(params.groups, -1)
        tied = ids.tie(*groups.unbind(0))
        order = tied.repeat_interleave(params.groups)
        return order.view(-1, *[1] * (given.dim() - 2)).expand(given.shape)
