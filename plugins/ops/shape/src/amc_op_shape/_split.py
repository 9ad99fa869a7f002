"""Chunks and splits: several outputs, each with its share of the channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from amc_op_shape import _modules
from amc_op_shape._ids import copied, int_list, literal
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, LayerHandler, Params, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ChunkHandler", "SplitHandler", "UnbindHandler"]


class ChunkParams(Params):
    """`sizes` are set when a removal of channels made the pieces unequal."""

    chunks: int
    dim: int = 0
    sizes: list[int] | None = None


class SplitParams(Params):
    """An int for equal pieces, or the size of each."""

    sizes: Int | list[Int]
    dim: int = 0


class UnbindParams(Params):
    """The axis and its size."""

    dim: int = 0
    count: int


class _PiecesHandler(LayerHandler):
    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = tuple(inputs[0])
        at = params.dim % len(sizes)
        pieces = self._pieces(params, sizes[at])
        if sum(pieces) != sizes[at] or 0 in pieces:
            return None
        return [(*sizes[:at], piece, *sizes[at + 1 :]) for piece in pieces]

    @abstractmethod
    def _pieces(self, params: Any, size: int) -> list[int]:
        """What an axis of this size is cut into; empty where that is not known."""

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        axis = params.dim % inputs[0].dim()
        return list(inputs[0].split([shape[axis] for shape in ids.output_shapes], axis))


class ChunkHandler(_PiecesHandler):
    """Equal pieces along an axis."""

    Params = ChunkParams
    module_class = _modules.TensorChunk

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        bound = call.bind("input", "chunks", dim=0)
        chunks, dim = literal(call, "chunks", bound["chunks"]), literal(call, "dim", bound["dim"])
        return _modules.TensorChunk(1 if bound["input"].shape[dim] == 1 else chunks, dim)  # one entry cannot be divided

    def _pieces(self, params: Any, size: int) -> list[int]:
        return params.sizes or _equal(size, -(-size // params.chunks))

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        sizes = _kept_pieces(module, inputs[0], outputs)
        return module if sizes is None else _modules.TensorChunk(module.chunks, module.dim, sizes)  # type: ignore[arg-type]


class SplitHandler(_PiecesHandler):
    """Pieces of given sizes along an axis."""

    Params = SplitParams
    module_class = _modules.TensorSplit

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "sizes")
        if call.target.endswith("tensor_split"):
            return self._sections(call)
        first, second = _names(call.target)
        bound = call.bind(first, second, dim=0)
        sizes, dim = bound[second], literal(call, "dim", bound["dim"])
        if isinstance(sizes, list | tuple):
            sizes = int_list(call, second, sizes)
        elif not isinstance(sizes, Int):
            raise Declined(f"{call.target} with {sizes!r} for `{second}`")
        elif isinstance(sizes, int) and sizes >= bound[first].shape[dim]:
            sizes = [bound[first].shape[dim]]  # one piece: the module gives that piece alone
        return _modules.TensorSplit(sizes, dim)

    def _sections(self, call: Call) -> nn.Module:
        """`tensor_split`: so many pieces, the first ones larger by one, or pieces that end at given places."""
        names = [name for name in ("indices", "sections") if name in call.kwargs]
        where = names[0] if names else "indices_or_sections"
        bound = call.bind("input", where, dim=0)
        dim = literal(call, "dim", bound["dim"])
        size = bound["input"].shape[dim]
        if isinstance(bound[where], list | tuple):
            ends = [min(max(literal(call, where, one) % (size + 1), 0), size) for one in bound[where]]
            bounds = [0, *ends, size]
        else:
            count = literal(call, where, bound[where])
            bounds = [place * (size // count) + min(place, size % count) for place in range(count + 1)]
        sizes = [end - start for start, end in pairwise(bounds)]
        if any(one < 0 for one in sizes):
            raise Declined(f"{call.target} at places that overlap")
        return _modules.TensorSplit(sizes, dim)

    def _pieces(self, params: Any, size: int) -> list[int]:
        if isinstance(params.sizes, int):
            return _equal(size, params.sizes)
        return params.sizes if isinstance(params.sizes, list) and all(isinstance(one, int) for one in params.sizes) else []

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        sizes = _kept_pieces(module, inputs[0], outputs)
        return module if sizes is None else _modules.TensorSplit(sizes, module.dim)  # type: ignore[arg-type]


class UnbindHandler(LayerHandler):
    """Every position of an axis as a tensor of its own; channels that become tensors of their own are pinned."""

    Params = UnbindParams
    module_class = _modules.TensorUnbind

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call)
        bound = call.bind("input", dim=0)
        dim = literal(call, "dim", bound["dim"])
        return _modules.TensorUnbind(dim, bound["input"].shape[dim])

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        sizes = tuple(inputs[0])
        at = params.dim % len(sizes)
        return [(*sizes[:at], *sizes[at + 1 :])] * params.count if sizes[at] == params.count else None

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        (given,) = inputs
        if ids.varies(given, params.dim):
            ids.pin(given, f"{self.spec.op} takes each of them out")
        return list(given.unbind(params.dim))


def _equal(size: int, piece: int) -> list[int]:
    """Pieces of one size, the last of what is left."""
    return [min(piece, size - start) for start in range(0, size, piece)] if piece > 0 else []


def _names(target: str) -> tuple[str, str]:
    """What the spelling calls its first two arguments."""
    if target.endswith("split_with_sizes"):
        return "input", "split_sizes"
    return ("self", "split_size") if target.startswith("torch.Tensor.") else ("tensor", "split_size_or_sections")


def _kept_pieces(module: nn.Module, given: Kept, outputs: Sequence[Kept]) -> list[int] | None:
    dim: Any = module.dim
    axis = dim % len(given.shape)
    return [one.new_shape[axis] for one in outputs] if given.restricts(axis) else None
