"""Emitters of reductions, running totals and orderings."""

from __future__ import annotations

import torch

from amc_onnx_export._graph import ELEMENT_TYPES, Dim
from amc_onnx_export._norm import vector_norm
from amc_onnx_export._op import Emitter, Op, Value

__all__ = ["EMITTERS"]


def _axes(op: Op) -> list[int]:
    return [op.axis(one) for one in op.params.dim] if op.params.dim else list(range(op.x.rank))


def _reduce(kind: str) -> Emitter:
    def emit(op: Op) -> str:
        return op.reduce(kind, op.cast(op.x, op.out.dtype), _axes(op), op.params.keepdim)

    return emit


def _whether(kind: str) -> Emitter:
    """`any` and `all`: the largest or smallest of zeros and ones."""

    def emit(op: Op) -> str:
        numbers = op.cast(op.cast(op.x, torch.bool), torch.int32)
        return op.add("Cast", op.reduce(kind, numbers, _axes(op), op.params.keepdim), to=ELEMENT_TYPES[torch.bool])

    return emit


def _deviation(root: bool) -> Emitter:
    def emit(op: Op) -> str:
        axes = _axes(op)
        count: Dim = 1
        for axis in axes:
            count = op.integer("mul", count, op.size(op.x, axis))
        centred = op.add("Sub", op.x, op.reduce("Mean", op.x, axes))
        total = op.reduce("SumSquare", centred, axes, op.params.keepdim)
        if isinstance(count, int):
            rest = op.constant(max(0.0, count - op.params.correction), op.x.dtype)
        else:
            less = op.add("Sub", op.scalar(count, op.x.dtype), op.constant(float(op.params.correction)))
            rest = op.add("Max", less, op.constant(0.0))
        variance = op.add("Div", total, rest)
        return op.add("Sqrt", variance) if root else variance

    return emit


def _norm(op: Op) -> str:
    return vector_norm(op, op.params.ord, _axes(op), op.params.keepdim)


def _extreme(kind: str) -> Emitter:
    def emit(op: Op) -> str | list[str]:
        if len(op.inputs) > 1:
            return op.add(kind, *(op.cast(one, op.out.dtype) for one in op.inputs))
        if op.params.dim is None:
            return op.reduce(kind, op.x, list(range(op.x.rank)), keep=False)
        axis, keep = op.axis(op.params.dim), op.params.keepdim
        values = op.reduce(kind, op.x, [axis], keep)
        return [values, op.add(f"Arg{kind}", op.x, axis=axis, keepdims=int(keep))] if len(op.outputs) > 1 else values

    return emit


def _place(kind: str) -> Emitter:
    def emit(op: Op) -> str:
        if op.params.dim is not None:
            return op.add(f"Arg{kind}", op.x, axis=op.axis(op.params.dim), keepdims=int(op.params.keepdim))
        flat = op.add("Reshape", op.x, op.vector([-1]))
        place = op.add(f"Arg{kind}", flat, axis=0, keepdims=0)
        return op.add("Reshape", place, op.vector([1] * op.x.rank)) if op.params.keepdim else place

    return emit


def _cumsum(op: Op) -> str:
    return op.add("CumSum", op.cast(op.x, op.out.dtype), op.constant(op.axis(op.params.dim), torch.int64))


def _cumprod(op: Op) -> str:
    """Opset 18 has no such op: each step multiplies by the entries twice as far back (W. Hillis and G. Steele, 1986)."""
    axis = op.axis(op.params.dim)
    size = op.x.shape[axis]
    if size is None:
        op.refuse("along an axis whose size is known at run time only")
    total = op.cast(op.x, op.out.dtype).name
    step = 1
    while step < size:
        pads: list[Dim] = [0] * (2 * op.x.rank)
        pads[axis] = step
        shifted = op.add("Pad", total, op.vector(pads), op.constant(1, op.out.dtype))
        total = op.add("Mul", total, op.slice(shifted, axis, 0, size))
        step *= 2
    return total


def _top(op: Op, count: Dim, largest: bool, in_order: bool = True) -> list[str]:
    axis = op.axis(op.params.dim)
    return op.add_many("TopK", op.x, op.vector([count]), count=2, axis=axis, largest=int(largest), sorted=int(in_order))


def _sort(op: Op) -> list[str]:
    return _top(op, op.size(op.x, op.params.dim), op.params.descending)


def _argsort(op: Op) -> str:
    return _top(op, op.size(op.x, op.params.dim), op.params.descending)[1]


def _topk(op: Op) -> list[str]:
    return _top(op, op.dim(op.params.k), op.params.largest, op.params.sorted)


def _triangle(upper: bool) -> Emitter:
    def emit(op: Op) -> str:
        wide = op.x if op.x.floating or op.x.dtype in (torch.int64, torch.bool) else op.cast(op.x, torch.int64)
        cut = op.add("Trilu", wide, op.constant(op.params.diagonal, torch.int64), upper=int(upper))
        return op.cast(Value(cut, wide.dtype, op.x.shape), op.x.dtype).name

    return emit


EMITTERS: dict[str, Emitter] = {
    "vn.mean": _reduce("Mean"),
    "vn.sum": _reduce("Sum"),
    "vn.amax": _reduce("Max"),
    "vn.amin": _reduce("Min"),
    "vn.prod": _reduce("Prod"),
    "vn.logsumexp": _reduce("LogSumExp"),
    "vn.any": _whether("Max"),
    "vn.all": _whether("Min"),
    "vn.std": _deviation(True),
    "vn.var": _deviation(False),
    "vn.norm": _norm,
    "vn.max": _extreme("Max"),
    "vn.min": _extreme("Min"),
    "vn.argmax": _place("Max"),
    "vn.argmin": _place("Min"),
    "vn.cumsum": _cumsum,
    "vn.cumprod": _cumprod,
    "vn.sort": _sort,
    "vn.argsort": _argsort,
    "vn.topk": _topk,
    "vn.tril": _triangle(False),
    "vn.triu": _triangle(True),
}
