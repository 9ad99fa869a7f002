"""Interpolation over the axes behind the channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import TYPE_CHECKING, Any

from amc_op_resize import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params, Ref, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["InterpolateHandler"]

_Scale = Ref | int | float


class InterpolateParams(Params):
    """As in `torch.nn.functional.interpolate`; exactly one of `size` and `scale_factor` is set."""

    size: Int | list[Int] | None = None
    scale_factor: _Scale | list[_Scale] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None
    antialias: bool = False


class InterpolateHandler(LayerHandler):
    """Every channel is resized by itself."""

    Params = InterpolateParams
    module_class = _modules.Interpolate

    def module(self, call: Call) -> nn.Module:
        defaults = {name: field.default for name, field in InterpolateParams.model_fields.items()}
        if call.original is not None:
            bound = call.bind("x", size=None, scale_factor=None)
            made = super().module(call)
        else:
            bound = call.bind("input", **defaults)
            made = _modules.Interpolate(**{name: bound[name] for name in defaults})
        for name, kinds in (("size", Int), ("scale_factor", _Scale)):
            value = bound[name]
            for one in value if isinstance(value, list | tuple) else [value]:
                if one is not None and not isinstance(one, kinds):
                    raise Declined(f"{call.target} with {one!r} for `{name}`")
            if value is not None:
                setattr(made, name, value)
        return made

    def params(self, module: nn.Module) -> InterpolateParams:
        # `nn.Upsample` has no `antialias`
        plain: dict[str, Any] = {name: getattr(module, name, False) for name in InterpolateParams.model_fields}
        listed: dict[str, Any] = {name: list(item) if isinstance(item, tuple) else item for name, item in plain.items()}
        return InterpolateParams(**listed)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        (batch, channels, *have), by_size = inputs[0], params.size is not None
        given = params.size if by_size else params.scale_factor
        wanted = given if isinstance(given, list) else [given] * len(have)
        sizes = wanted if by_size else [floor(old * scale) for old, scale in zip(have, wanted, strict=True)]
        return [(batch, channels, *sizes)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        (shape,) = ids.output_shapes
        return ids.mixed(inputs[0], list(range(2, len(shape))), f"{self.spec.op} resizes them").expand(shape)
