"""Padding and cropping of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from amc_op_resize import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PadHandler"]

_MODES: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.ConstantPad2d, "constant"),
    (nn.ReflectionPad2d, "reflect"),
    (nn.ReplicationPad2d, "replicate"),
    (nn.CircularPad2d, "circular"),
)


class PadParams(Params):
    """As in `torch.nn.functional.pad`: (before, after) per axis, the last axis first."""

    pad: list[Int]
    mode: str = "constant"
    value: int | float | None = None


class PadHandler(LayerHandler):
    """Padding along axes that channels do not differ on keeps them; padding of channels pins them."""

    Params = PadParams
    module_class = _modules.Pad

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._of_module(call, call.original)
        bound = call.bind("input", "pad", mode="constant", value=None)
        pad, value = bound["pad"], bound["value"]
        if not isinstance(pad, list | tuple) or not all(isinstance(one, Int) for one in pad):
            raise Declined(f"{call.target} with {pad!r} for `pad`")
        if value is not None and not isinstance(value, int | float):
            raise Declined(f"{call.target} with {value!r} for `value`")
        return _modules.Pad(list(pad), bound["mode"], value)

    def _of_module(self, call: Call, original: nn.Module) -> nn.Module:
        if isinstance(original, _modules.Pad):
            pad = call.bind("x", pad=None)["pad"]
            return _modules.Pad(original.pad if pad is None else list(pad), original.mode, original.value)
        for kind, mode in _MODES:
            if isinstance(original, kind):
                amounts: Any = original.padding
                return _modules.Pad(list(amounts), mode, getattr(original, "value", None))
        raise Declined(f"{call.target} is no known padding")

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,) = ids.output_shapes
        pairs = zip(params.pad[::2], params.pad[1::2], strict=True)
        axes = [len(shape) - 1 - index for index, pair in enumerate(pairs) if pair != (0, 0)]
        return ids.mixed(inputs[0], axes, f"{self.spec.op} pads them").expand(shape)
