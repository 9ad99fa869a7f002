"""Grids of coordinates, triangles of matrices, classes as vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amc_op_creation import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, ElementwiseHandler, LayerHandler, Params, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["MeshgridHandler", "OneHotHandler", "TriangleHandler"]


class MeshgridParams(Params):
    """As in `torch.meshgrid`."""

    indexing: str = "ij"


class TriangleParams(Params):
    """As in `torch.tril`."""

    diagonal: int = 0


class OneHotParams(Params):
    """As in `torch.nn.functional.one_hot`."""

    num_classes: int


class MeshgridHandler(LayerHandler):
    """What differs along an input differs along its axis of every grid that is made of it."""

    Params = MeshgridParams
    module_class = _modules.Meshgrid

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        tensors = list(call.args)
        if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
            tensors = list(tensors[0])
        if set(call.kwargs) - {"indexing"} or not all(isinstance(one, Value) for one in tensors):
            raise Declined(f"{call.target} of something other than tensors")
        indexing = call.kwargs.get("indexing")
        return _modules.Meshgrid("ij" if indexing is None else indexing)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        order = list(range(len(inputs)))
        if params.indexing == "xy" and len(inputs) > 1:
            order[:2] = [1, 0]
        grids = []
        for one, axis, shape in zip(inputs, order, ids.output_shapes, strict=True):
            laid = [1] * len(shape)
            laid[axis] = one.numel()
            grids.append(one.reshape(laid).expand(shape))
        return grids


class TriangleHandler(ElementwiseHandler):
    """`tril` and `triu`: the function is the name of the op. Channels on the last two axes are pinned: their places count."""

    Params = TriangleParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        diagonal = call.bind("input", diagonal=0)["diagonal"]
        if not isinstance(diagonal, int):
            raise Declined(f"{call.target} with a computed diagonal")
        return _modules.Triangle(self.spec.name, diagonal)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        return _modules.Triangle(self.spec.name, params.diagonal)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.mixed(inputs[0], [-2, -1], f"{self.spec.op} cuts a triangle out of them")
        return inputs[0]


class OneHotHandler(LayerHandler):
    """With a literal number of classes."""

    Params = OneHotParams
    module_class = _modules.OneHot

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        classes = call.bind("tensor", num_classes=-1)["num_classes"]
        if not isinstance(classes, int) or classes < 1:
            raise Declined(f"{call.target} with {classes!r} classes")
        return _modules.OneHot(classes)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.pin(inputs[0], f"{self.spec.op} reads numbers of classes from them")
        return ids.fixed(f"made by {self.spec.op}")
