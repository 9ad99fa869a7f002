"""Sampling at computed places: `grid_sample` and the grids of affine maps.

M. Jaderberg et al., Spatial Transformer Networks, NIPS 2015, equations 1 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_op_resize import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["AffineGridHandler", "GridSampleHandler"]


class GridSampleParams(Params):
    """As in `torch.nn.functional.grid_sample`; `reversed` when the grid is the first tensor of the call."""

    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool | None = None
    reversed: bool = False


class AffineGridParams(Params):
    """As in `torch.nn.functional.affine_grid`."""

    size: list[Int]
    align_corners: bool | None = None


class GridSampleHandler(LayerHandler):
    """Every channel is sampled by itself; the places that the grid holds are pinned."""

    Params = GridSampleParams
    module_class = _modules.GridSample

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", "grid", mode="bilinear", padding_mode="zeros", align_corners=None)
        if not isinstance(bound["input"], Value) or not isinstance(bound["grid"], Value):
            raise Declined(f"{call.target} of something other than two tensors")
        settings = {name: bound[name] for name in ("mode", "padding_mode", "align_corners")}
        return _modules.GridSample(**settings, reversed=call.values()[0] is not bound["input"])

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        given, grid = reversed(inputs) if params.reversed else inputs
        return [(*given[:2], *grid[1:-1])]  # the meta device takes milliseconds for it

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given, grid = reversed(inputs) if params.reversed else inputs
        ids.pin(grid, f"{self.spec.op} samples at them")
        return ids.mixed(given, range(2, given.dim()), f"{self.spec.op} samples among them").expand(ids.output_shapes[0])


class AffineGridHandler(LayerHandler):
    """Places of an affine map; what it is made from is pinned."""

    Params = AffineGridParams
    module_class = _modules.AffineGrid

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("theta", "size", align_corners=None)
        size = bound["size"]
        if not isinstance(size, list | tuple) or not all(isinstance(one, Int) for one in size):
            raise Declined(f"{call.target} with {size!r} for `size`")
        return _modules.AffineGrid(list(size), bound["align_corners"])

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.pin(inputs[0], f"{self.spec.op} makes places from them")
        return ids.fixed(f"made by {self.spec.op}")
