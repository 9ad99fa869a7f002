"""Emitters of tensors that are made while a network runs."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import numpy_helper

from amc_onnx_export._graph import ELEMENT_TYPES, Dim
from amc_onnx_export._op import Emitter, Op
from amc_plugins.document import Ref

__all__ = ["EMITTERS"]

_LITERAL = 65536
"""Constants of up to so many entries are stored."""


def _filled(op: Op, dims: list[Dim], value: Any) -> str:
    """A tensor of one value."""
    literal = [one for one in dims if isinstance(one, int)]
    if len(literal) == len(dims) and math.prod(literal) <= _LITERAL:
        return op.constant(torch.full(literal, value, dtype=op.out.dtype))
    return _spread(op, op.vector(dims), value)


def _spread(op: Op, shape: str, value: Any) -> str:
    single = numpy_helper.from_array(torch.tensor([value], dtype=op.out.dtype).numpy(), "value")
    return op.add("ConstantOfShape", shape, value=single)


def _full(op: Op) -> str:
    return _filled(op, [op.dim(one) for one in op.params.size], op.params.value)


def _full_like(op: Op) -> str:
    if op.params.size is not None:
        return _full(op)
    if None not in op.x.shape:
        return _filled(op, [one for one in op.x.shape if one is not None], op.params.value)
    return _spread(op, op.add("Shape", op.x), op.params.value)


def _number(op: Op, value: Any, dtype: torch.dtype) -> str:
    return op.scalar(op.dim(value), dtype) if isinstance(value, Ref) else op.constant(value, dtype)


def _resolved(op: Op, *values: Any) -> list[Any]:
    """Numbers, with those that the graph computes and that are literal here put in."""
    return [op.dim(one) if isinstance(one, Ref) else one for one in values]


def _arange(op: Op) -> str:
    params, dtype = op.params, op.out.dtype
    start, end, step = _resolved(op, params.start, params.end, params.step)
    if not any(isinstance(one, str) for one in (start, end, step)):
        return op.constant(torch.arange(start, end, step, dtype=dtype))
    computed = dtype if dtype in (torch.float32, torch.float64, torch.int32, torch.int64) else torch.int64
    made = op.add("Range", *(_number(op, one, computed) for one in (params.start, params.end, params.step)))
    return made if computed == dtype else op.add("Cast", made, to=ELEMENT_TYPES[dtype])


def _linspace(op: Op) -> str:
    params, dtype = op.params, op.out.dtype
    start, end, steps = _resolved(op, params.start, params.end, params.steps)
    if not any(isinstance(one, str) for one in (start, end, steps)):
        return op.constant(torch.linspace(start, end, steps, dtype=dtype))
    zero, one = op.constant(0, torch.int64), op.constant(1, torch.int64)
    places = op.add("Cast", op.add("Range", zero, op.scalar(steps), one), to=ELEMENT_TYPES[dtype])
    gaps = op.scalar(op.integer("sub", steps, 1), dtype)
    first = _number(op, params.start, dtype)
    stride = op.add("Div", op.add("Sub", _number(op, params.end, dtype), first), gaps)
    return op.add("Add", op.add("Mul", places, stride), first)


def _eye(op: Op) -> str:
    rows, columns = op.dim(op.params.n), op.dim(op.params.m)
    if isinstance(rows, int) and isinstance(columns, int):
        return op.constant(torch.eye(rows, columns, dtype=op.out.dtype))
    return op.add("EyeLike", _spread(op, op.vector([rows, columns]), 0), dtype=ELEMENT_TYPES[op.out.dtype])


def _numbers(op: Op) -> str:
    entries = _flat(op.params.data)
    shape = [one for one in op.out.shape if one is not None]
    if not any(isinstance(one, Ref) for one in entries):
        return op.constant(torch.tensor(entries, dtype=op.out.dtype).reshape(shape))
    parts = [op.unsqueeze(_number(op, one, op.out.dtype), 0) for one in entries]
    return op.add("Reshape", op.add("Concat", *parts, axis=0), op.vector(list(shape)))


def _flat(data: Any) -> list[Any]:
    return [one for item in data for one in _flat(item)] if isinstance(data, list | tuple) else [data]


def _meshgrid(op: Op) -> list[str]:
    order = list(range(len(op.inputs)))
    if op.params.indexing == "xy" and len(order) > 1:
        order[:2] = [1, 0]
    axes = {axis: place for place, axis in enumerate(order)}
    sizes = [op.size(op.inputs[axes[axis]], 0) if op.inputs[axes[axis]].rank else 1 for axis in range(len(order))]
    shape = op.vector(sizes)
    grids = []
    for one, axis in zip(op.inputs, order, strict=True):
        laid: list[Dim] = [1] * len(order)
        laid[axis] = -1
        grids.append(op.add("Expand", op.reshape(one, laid), shape))
    return grids


def _one_hot(op: Op) -> str:
    depth = op.constant(op.params.num_classes, torch.int64)
    return op.add("OneHot", op.x, depth, op.constant(torch.tensor([0, 1])), axis=-1)


def _constant(op: Op) -> str:
    return op.slot("value")


EMITTERS: dict[str, Emitter] = {
    "vn.constant": _constant,
    "vn.full": _full,
    "vn.full_like": _full_like,
    "vn.arange": _arange,
    "vn.linspace": _linspace,
    "vn.eye": _eye,
    "vn.tensor": _numbers,
    "vn.meshgrid": _meshgrid,
    "vn.one_hot": _one_hot,
}
