"""Two-dimensional pooling: windows over the last two axes, each channel by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_op_pooling import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["AdaptiveAvgPool2dHandler", "AdaptiveMaxPool2dHandler", "AvgPool2dHandler", "MaxPool2dHandler"]

Size = Int | list[Int]


class MaxPool2dParams(Params):
    """As in `torch.nn.MaxPool2d`."""

    kernel_size: Size
    stride: Size
    padding: int | list[int] = 0
    dilation: int | list[int] = 1
    ceil_mode: bool = False


class AvgPool2dParams(Params):
    """As in `torch.nn.AvgPool2d`."""

    kernel_size: Size
    stride: Size
    padding: int | list[int] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None


class AdaptiveParams(Params):
    """As in `torch.nn.AdaptiveAvgPool2d`: None keeps the size of the input."""

    output_size: Int | list[Int | None] | None


class _PoolHandler(LayerHandler):
    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,) = ids.output_shapes
        spatial = [len(shape) - 2, len(shape) - 1]
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

    Params = MaxPool2dParams
    module_class = _modules.MaxPool2d

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._copy(call, "kernel_size", "stride")
        return _modules.MaxPool2d(**self._window(call, padding=0, dilation=1, ceil_mode=False, return_indices=False))


class AvgPool2dHandler(_WindowHandler):
    """Average pooling."""

    Params = AvgPool2dParams
    module_class = _modules.AvgPool2d

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._copy(call, "kernel_size", "stride")
        return _modules.AvgPool2d(
            **self._window(call, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None)
        )


class _AdaptiveHandler(_PoolHandler):
    Params = AdaptiveParams

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


def _check(call: Call, name: str, value: Any, kinds: Any) -> None:
    for one in value if isinstance(value, list | tuple) else [value]:
        if one is not None and not isinstance(one, kinds):
            raise Declined(f"{call.target} with {one!r} for `{name}`")
