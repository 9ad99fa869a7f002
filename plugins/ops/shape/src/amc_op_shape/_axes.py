"""Axes in another order, axes that go, axes that come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_op_shape import _modules
from amc_op_shape._ids import copied, literal
from amc_plugins.handlers import Call, ChannelIds, Declined, Kept, LayerHandler, Params, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["PermuteHandler", "SqueezeHandler", "TransposeHandler", "UnsqueezeHandler"]


class PermuteParams(Params):
    """Axis i of the result is axis `dims[i]` of the input."""

    dims: list[int]


class TransposeParams(Params):
    """The two axes."""

    dim0: int
    dim1: int


class SqueezeParams(Params):
    """The axes that go if their size is 1; None: all such axes."""

    dim: list[int] | None = None


class UnsqueezeParams(Params):
    """The place of the new axis."""

    dim: int


class PermuteHandler(LayerHandler):
    """The channels move with their axis. `movedim` and `moveaxis` become permutations."""

    Params = PermuteParams
    module_class = _modules.TensorTranspose

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        if call.target.rpartition(".")[2] in ("movedim", "moveaxis"):
            bound = call.bind("input", "source", "destination")
            moves = [_listed(call, name, bound[name]) for name in ("source", "destination")]
            return _modules.TensorTranspose(_moved(len(bound["input"].shape), *moves))
        _, dims = call.varargs("input" if call.target == "torch.permute" else "self", keyword="dims")
        return _modules.TensorTranspose([literal(call, "dims", one) for one in dims])

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        return [tuple(inputs[0][axis] for axis in params.dims)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0].permute(params.dims)


class TransposeHandler(LayerHandler):
    """`transpose`, `swapaxes`, `swapdims`, `t`, and `.T` and `.mT` of matrices."""

    Params = TransposeParams
    module_class = _modules.TensorSwapAxes

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        if call.target.rpartition(".")[2] in ("t", "t_", "__get__"):
            given = call.args[0] if call.args else call.kwargs.get("input")
            if not isinstance(given, Value) or len(given.shape) < 2 or (len(given.shape) > 2 and ".mT." not in call.target):
                raise Declined(f"{call.target} of anything but a matrix")
            return _modules.TensorSwapAxes(-2, -1)
        names = ("axis0", "axis1") if "axis0" in call.kwargs or "axis1" in call.kwargs else ("dim0", "dim1")
        bound = call.bind("input", *names)
        return _modules.TensorSwapAxes(*(literal(call, name, bound[name]) for name in names))

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = list(inputs[0])
        if not sizes:  # torch swaps the axes of a number too
            return [()]
        sizes[params.dim0], sizes[params.dim1] = sizes[params.dim1], sizes[params.dim0]
        return [tuple(sizes)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0].transpose(params.dim0, params.dim1)


class SqueezeHandler(LayerHandler):
    """Which axes have size 1 may change when channels go: `keep` then names those that had."""

    Params = SqueezeParams
    module_class = _modules.TensorSqueeze

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        dim = call.bind("input", dim=None)["dim"]
        if dim is not None:
            dim = [literal(call, "dim", one) for one in (dim if isinstance(dim, list | tuple) else [dim])]
        return _modules.TensorSqueeze(dim)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        gone = _squeezed(params.dim, inputs[0])
        return [tuple(size for axis, size in enumerate(inputs[0]) if axis not in gone)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = inputs[0]
        return given.squeeze(_squeezed(params.dim, tuple(given.shape)))

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        (before,) = inputs
        dim: Any = module.dim
        if _squeezed(dim, before.shape) == _squeezed(dim, before.new_shape):
            return module
        return _modules.TensorSqueeze(_squeezed(dim, before.shape))


class UnsqueezeHandler(LayerHandler):
    """The new axis has no channels of its own."""

    Params = UnsqueezeParams
    module_class = _modules.TensorUnsqueeze

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        if not isinstance(call.bind("input", "dim")["dim"], int):
            raise Declined(f"{call.target} at a computed place")
        return _modules.TensorUnsqueeze(literal(call, "dim", call.bind("input", "dim")["dim"]))

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = list(inputs[0])
        sizes.insert(params.dim % (len(sizes) + 1), 1)
        return [tuple(sizes)]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0].unsqueeze(params.dim)


def _listed(call: Call, name: str, axes: Any) -> list[int]:
    return [literal(call, name, one) for one in (axes if isinstance(axes, list | tuple) else [axes])]


def _moved(rank: int, source: Sequence[int], destination: Sequence[int]) -> list[int]:
    """The permutation that puts axes `source` at `destination` and leaves the others in their order."""
    places = {place % rank: axis % rank for axis, place in zip(source, destination, strict=True)}
    others = iter(axis for axis in range(rank) if axis not in places.values())
    return [places[place] if place in places else next(others) for place in range(rank)]


def _squeezed(dim: Sequence[int] | None, shape: tuple[int, ...]) -> list[int]:
    """The axes that `squeeze(dim)` takes from a tensor of this shape."""
    axes = range(len(shape)) if dim is None else sorted({one % len(shape) for one in dim}) if shape else []
    return [axis for axis in axes if shape[axis] == 1]
