"""Largest entries and their places, running totals, sorting. Over channels all of these pin them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from amc_op_pooling import _reductions
from amc_op_pooling._reduce import axes_of, truth
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["CumulateHandler", "ExtremeHandler", "OrderHandler", "PlaceHandler", "TopKHandler"]


class ExtremeParams(Params):
    """`dim` None: of all entries, or of two tensors entry by entry."""

    dim: int | None = None
    keepdim: bool = False


class CumulateParams(Params):
    """The axis, and the type of the result where it is another one."""

    dim: int
    dtype: str | None = None


class OrderParams(Params):
    """As in `torch.sort`."""

    dim: int = -1
    descending: bool = False
    stable: bool = False


class TopKParams(Params):
    """As in `torch.topk`."""

    k: Int
    dim: int = -1
    largest: bool = True
    sorted: bool = True


class _AlongHandler(LayerHandler):
    """All outputs run along one axis of the input (or over all of it)."""

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        assert self.module_class is not None
        return self.module_class(self.spec.name, **{name: getattr(params, name) for name in self.Params.model_fields})

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        (given,) = inputs
        axes = list(range(given.dim())) if params.dim is None else [params.dim % max(1, given.dim())] if given.dim() else []
        left = ids.mixed(given, axes, f"{self.spec.op} runs over them")
        return [left.expand(shape) if len(shape) == left.dim() else left.reshape(shape) for shape in ids.output_shapes]


class ExtremeHandler(_AlongHandler):
    """`max` and `min`: the function is the name of the op. Of two tensors, channels that are laid on each other are tied."""

    Params = ExtremeParams
    module_class = _reductions.TensorExtreme

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        second = call.args[1] if len(call.args) > 1 else call.kwargs.get("other")
        if isinstance(second, Value):
            call.bind("input", "other")
            return _reductions.TensorExtreme(self.spec.name)
        bound = call.bind("input", dim=None, keepdim=False)
        return _reductions.TensorExtreme(self.spec.name, _axis(call, bound["dim"]), truth(call, "keepdim", bound["keepdim"]))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        return [ids.tie(*inputs)] if len(inputs) > 1 else super().channels(params, inputs, ids)


class PlaceHandler(_AlongHandler):
    """`argmax` and `argmin`: the function is the name of the op."""

    Params = ExtremeParams
    module_class = _reductions.TensorPlace

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", dim=None, keepdim=False)
        return _reductions.TensorPlace(self.spec.name, _axis(call, bound["dim"]), truth(call, "keepdim", bound["keepdim"]))


class CumulateHandler(_AlongHandler):
    """`cumsum` and `cumprod`: the function is the name of the op."""

    Params = CumulateParams
    module_class = _reductions.TensorCumulate

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", "dim", dtype=None)
        dim = _axis(call, bound["dim"])
        if dim is None or not isinstance(bound["dtype"], torch.dtype | None):
            raise Declined(f"{call.target} along {bound['dim']!r} in {bound['dtype']!r}")
        same = bound["dtype"] in (None, bound["input"].dtype)
        return _reductions.TensorCumulate(self.spec.name, dim, None if same else str(bound["dtype"]).removeprefix("torch."))


class OrderHandler(_AlongHandler):
    """`sort` and `argsort`: the function is the name of the op."""

    Params = OrderParams
    module_class = _reductions.TensorOrder

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", dim=-1, descending=False, stable=None)
        flags = [truth(call, name, bool(bound[name])) for name in ("descending", "stable")]
        dim = _axis(call, bound["dim"])
        return _reductions.TensorOrder(self.spec.name, -1 if dim is None else dim, *flags)


class TopKHandler(_AlongHandler):
    """The largest entries along an axis, and their places."""

    Params = TopKParams
    module_class = _reductions.TensorTopK

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", "k", dim=-1, largest=True, sorted=True)
        if not isinstance(bound["k"], Int):
            raise Declined(f"{call.target} with {bound['k']!r} for `k`")
        dim = _axis(call, bound["dim"])
        flags = [truth(call, name, bound[name]) for name in ("largest", "sorted")]
        return _reductions.TensorTopK(bound["k"], -1 if dim is None else dim, *flags)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        return _reductions.TensorTopK(params.k, params.dim, params.largest, params.sorted)


def _axis(call: Call, dim: Any) -> int | None:
    axes = axes_of(call, dim)
    if axes is not None and len(axes) > 1:
        raise Declined(f"{call.target} along {axes}")
    return axes[0] if axes else None
