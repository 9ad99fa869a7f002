"""Pooling over one, two and three axes: windows over the last axes, each channel by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from amc_op_pooling import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params, Shape

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

__all__ = [
    "AdaptiveAvgPool1dHandler",
    "AdaptiveAvgPool2dHandler",
    "AdaptiveAvgPool3dHandler",
    "AdaptiveMaxPool1dHandler",
    "AdaptiveMaxPool2dHandler",
    "AdaptiveMaxPool3dHandler",
    "AvgPool1dHandler",
    "AvgPool2dHandler",
    "AvgPool3dHandler",
    "MaxPool1dHandler",
    "MaxPool2dHandler",
    "MaxPool3dHandler",
]

Size = Int | list[Int]


class MaxPool2dParams(Params):
    """As in `torch.nn.MaxPool2d`."""

    kernel_size: Size
    stride: Size
    padding: int | list[int] = 0
    dilation: int | list[int] = 1
    ceil_mode: bool = False


class AvgPool1dParams(Params):
    """As in `torch.nn.AvgPool1d`."""

    kernel_size: Size
    stride: Size
    padding: int | list[int] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True


class AvgPool2dParams(AvgPool1dParams):
    """As in `torch.nn.AvgPool2d`."""

    divisor_override: int | None = None


class AdaptiveParams(Params):
    """As in `torch.nn.AdaptiveAvgPool2d`: None keeps the size of the input."""

    output_size: Int | list[Int | None] | None


class _PoolHandler(LayerHandler):
    rank: ClassVar[int] = 2

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,) = ids.output_shapes
        spatial = range(len(shape) - self.rank, len(shape))
        return ids.mixed(inputs[0], spatial, f"{self.spec.op} takes windows over them").expand(shape)

    def _copy(self, call: Call, *keywords: str) -> nn.Module:
        """A copy of the user's module; sizes that its call overrode are part of it."""
        if getattr(call.original, "return_indices", False):
            raise Declined(f"{call.target} with `return_indices`")
        bound = call.bind("input", **dict.fromkeys(keywords))
        made = super().module(Call(call.target, call.args, {}, call.original))
        for name in keywords:
            if bound[name] is not None:
                setattr(made, name, bound[name])
        return made


class _WindowHandler(_PoolHandler):
    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        """As torch counts windows: with `ceil_mode`, each that begins within the input or the padding before it."""
        names = ("kernel_size", "stride", "padding", "dilation")
        given = [getattr(params, name, 1) for name in names]
        spread = [one if isinstance(one, list) else [one] * self.rank for one in given]
        made = list(inputs[0])
        for place, window in enumerate(zip(*spread, strict=True), -self.rank):
            if not all(isinstance(one, int) for one in window):
                return None
            kernel, stride, padding, dilation = window
            room = made[place] + 2 * padding - dilation * (kernel - 1) - 1
            count = (-(-room // stride) if params.ceil_mode else room // stride) + 1
            if params.ceil_mode and (count - 1) * stride >= made[place] + padding:
                count -= 1
            if count < 1:
                return None
            made[place] = count
        return [tuple(made)]

    def _window(self, call: Call, **defaults: Any) -> dict[str, Any]:
        bound = call.bind("input", "kernel_size", stride=None, **defaults)
        del bound["input"]
        if bound.pop("return_indices", False):
            raise Declined(f"{call.target} with `return_indices`")
        if bound["stride"] in (None, (), []):
            bound["stride"] = bound["kernel_size"]
        for name, value in bound.items():
            _check(call, name, value, Int if name in ("kernel_size", "stride") else int)
        return bound


class MaxPool2dHandler(_WindowHandler):
    """Max pooling; a channel that is removed takes nothing else with it."""

    Params: ClassVar[type[BaseModel]] = MaxPool2dParams
    module_class: ClassVar[type[nn.Module] | None] = _modules.MaxPool2d

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._copy(call, "kernel_size", "stride")
        assert self.module_class is not None
        return self.module_class(**self._window(call, padding=0, dilation=1, ceil_mode=False, return_indices=False))


class AvgPool2dHandler(_WindowHandler):
    """Average pooling."""

    Params: ClassVar[type[BaseModel]] = AvgPool2dParams
    module_class: ClassVar[type[nn.Module] | None] = _modules.AvgPool2d

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._copy(call, "kernel_size", "stride")
        assert self.module_class is not None
        names = [name for name in self.Params.model_fields if name not in ("kernel_size", "stride")]
        return self.module_class(**self._window(call, **{name: self.Params.model_fields[name].default for name in names}))


class _AdaptiveHandler(_PoolHandler):
    Params = AdaptiveParams

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        size = params.output_size
        wanted = size if isinstance(size, list) else [size] * self.rank
        have = inputs[0][-self.rank :]
        return [(*inputs[0][: -self.rank], *(old if new is None else new for new, old in zip(wanted, have, strict=True)))]

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._copy(call, "output_size")
        bound = call.bind("input", "output_size", return_indices=False)
        if bound["return_indices"]:
            raise Declined(f"{call.target} with `return_indices`")
        _check(call, "output_size", bound["output_size"], Int)
        assert self.module_class is not None
        return self.module_class(bound["output_size"])


class AdaptiveAvgPool2dHandler(_AdaptiveHandler):
    """Average pooling to a chosen output size."""

    module_class = _modules.AdaptiveAvgPool2d


class AdaptiveMaxPool2dHandler(_AdaptiveHandler):
    """Max pooling to a chosen output size."""

    module_class = _modules.AdaptiveMaxPool2d


class MaxPool1dHandler(MaxPool2dHandler):
    """Max pooling of (N, C, L) or (C, L)."""

    rank = 1
    module_class = _modules.MaxPool1d


class MaxPool3dHandler(MaxPool2dHandler):
    """Max pooling of (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3
    module_class = _modules.MaxPool3d


class AvgPool1dHandler(AvgPool2dHandler):
    """Average pooling of (N, C, L) or (C, L)."""

    rank = 1
    Params = AvgPool1dParams
    module_class = _modules.AvgPool1d


class AvgPool3dHandler(AvgPool2dHandler):
    """Average pooling of (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3
    module_class = _modules.AvgPool3d


class AdaptiveAvgPool1dHandler(_AdaptiveHandler):
    """Average pooling of (N, C, L) or (C, L) to a chosen length."""

    rank = 1
    module_class = _modules.AdaptiveAvgPool1d


class AdaptiveAvgPool3dHandler(_AdaptiveHandler):
    """Average pooling of (N, C, D, H, W) or (C, D, H, W) to a chosen size."""

    rank = 3
    module_class = _modules.AdaptiveAvgPool3d


class AdaptiveMaxPool1dHandler(_AdaptiveHandler):
    """Max pooling of (N, C, L) or (C, L) to a chosen length."""

    rank = 1
    module_class = _modules.AdaptiveMaxPool1d


class AdaptiveMaxPool3dHandler(_AdaptiveHandler):
    """Max pooling of (N, C, D, H, W) or (C, D, H, W) to a chosen size."""

    rank = 3
    module_class = _modules.AdaptiveMaxPool3d


def _check(call: Call, name: str, value: Any, kinds: Any) -> None:
    for one in value if isinstance(value, list | tuple) else [value]:
        if one is not None and not isinstance(one, kinds):
            raise Declined(f"{call.target} with {one!r} for `{name}`")
