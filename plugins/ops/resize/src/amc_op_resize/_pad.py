"""Padding and cropping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn import functional as F

from amc_op_resize import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params, Shape

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PadHandler"]

_MODES: tuple[tuple[str, str], ...] = (
    ("ConstantPad", "constant"),
    ("ReflectionPad", "reflect"),
    ("ReplicationPad", "replicate"),
    ("CircularPad", "circular"),
)
_KINDS = {getattr(nn, f"{stem}{rank}d"): mode for stem, mode in _MODES for rank in (1, 2, 3)}


class PadParams(Params):
    """As in `torch.nn.functional.pad`: (before, after) per axis, the last axis first."""

    pad: list[Int]
    mode: str = "constant"
    value: int | float | None = None


class PadHandler(LayerHandler):
    """Channels pass; channels that a constant makes beside them are fixed. Other paddings of channels, and crops, pin them."""

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
        for kind, mode in _KINDS.items():
            if isinstance(original, kind):
                amounts: Any = original.padding
                return _modules.Pad(list(amounts), mode, getattr(original, "value", None))
        raise Declined(f"{call.target} is no known padding")

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = list(inputs[0])
        if not all(isinstance(one, int) for one in params.pad) or len(params.pad) > 2 * len(sizes):
            return None
        for index, (before, after) in enumerate(zip(params.pad[::2], params.pad[1::2], strict=True)):
            sizes[-1 - index] += before + after
        return [tuple(sizes)] if min(sizes, default=0) >= 0 else None

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,), (given,) = ids.output_shapes, inputs
        pairs = zip(params.pad[::2], params.pad[1::2], strict=True)
        for axis, (before, after) in ((len(shape) - 1 - index, pair) for index, pair in enumerate(pairs)):
            if (before, after) == (0, 0):
                continue
            known = all(isinstance(one, int) and one >= 0 for one in (before, after))
            if params.mode == "constant" and known and ids.varies(given, axis):
                made = int(ids.fixed(f"made by {self.spec.op}")[(0,) * len(shape)])
                thin = given[tuple(slice(0, 1 if given.stride(one) == 0 else None) for one in range(len(shape)))]
                given = F.pad(thin, [*[0, 0] * (len(shape) - 1 - axis), before, after], value=made)
            else:
                given = ids.mixed(given, [axis], f"{self.spec.op} pads them")
        return given.expand(shape)
