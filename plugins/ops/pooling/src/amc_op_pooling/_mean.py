"""Means along axes: `x.mean((2, 3))` is global average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_op_pooling import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["MeanHandler"]


class MeanParams(Params):
    """`dim` None: of all entries."""

    dim: list[int] | None = None
    keepdim: bool = False


class MeanHandler(LayerHandler):
    """A mean along axes that channels do not differ on keeps them; a mean over channels pins them."""

    Params = MeanParams
    module_class = _modules.TensorMean

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", dim=None, keepdim=False, dtype=None)
        dim = bound["dim"]
        dims = None if dim is None else list(dim) if isinstance(dim, list | tuple) else [dim]
        if bound["dtype"] is not None:
            raise Declined(f"{call.target} with `dtype`")
        if any(not isinstance(one, int) for one in dims or ()):
            raise Declined(f"{call.target} along {dims}: axes must be literal ints")
        return _modules.TensorMean(dims or None, bool(bound["keepdim"]))  # torch reads an empty list as all axes

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = inputs[0]
        axes = sorted({axis % given.dim() for axis in params.dim}) if params.dim else list(range(given.dim()))
        result = ids.mixed(given, axes, f"{self.spec.op} averages over them")
        return result.reshape(ids.output_shapes[0])
