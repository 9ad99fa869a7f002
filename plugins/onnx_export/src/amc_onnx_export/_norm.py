"""Emitters of normalisations."""

from __future__ import annotations

import torch

from amc_onnx_export._conv import batched
from amc_onnx_export._op import Emitter, Name, Op

__all__ = ["EMITTERS"]


def _filled(op: Op, count: int, value: float) -> str:
    return op.constant(torch.full((count,), value, dtype=op.x.dtype))


def _affine(op: Op, count: int) -> tuple[str, str]:
    weight = op.slot("weight") if "weight" in op.tensors else _filled(op, count, 1.0)
    return weight, op.slot("bias") if "bias" in op.tensors else _filled(op, count, 0.0)


def _batchnorm(op: Op) -> str:
    if "running_mean" not in op.tensors:
        return _standardized(op, op.x, [axis for axis in range(op.x.rank) if axis != 1], op.params.num_features)
    scale, shift = _affine(op, op.params.num_features)
    mean, var = op.slot("running_mean"), op.slot("running_var")
    return op.add("BatchNormalization", op.x, scale, shift, mean, var, epsilon=op.params.eps)


def _standardized(op: Op, x: Name, axes: list[int], channels: int | None) -> str:
    """(x - mean) / sqrt(var + eps) over `axes`, with weight and bias per channel of axis 1 if there are any."""
    centred = op.add("Sub", x, op.reduce("Mean", x, axes))
    variance = op.reduce("Mean", op.add("Mul", centred, centred), axes)
    result = op.add("Div", centred, op.add("Sqrt", op.add("Add", variance, op.constant(float(op.params.eps)))))
    return _scaled(op, result) if channels is not None else result


def _scaled(op: Op, x: str) -> str:
    ones = [1] * (op.x.rank - 2)
    for kind, name in (("Mul", "weight"), ("Add", "bias")):
        if name in op.tensors:
            x = op.add(kind, x, op.slot(name, lambda one: one.reshape(-1, *ones), f"{op.x.rank}d"))
    return x


def _instance_norm(op: Op) -> str:
    scale, shift = _affine(op, op.params.num_features)

    def compute(x: Name) -> str:
        if "running_mean" in op.tensors:
            mean, var = op.slot("running_mean"), op.slot("running_var")
            return op.add("BatchNormalization", x, scale, shift, mean, var, epsilon=op.params.eps)
        return op.add("InstanceNormalization", x, scale, shift, epsilon=op.params.eps)

    return batched(op, op.params.rank, compute)


def _group_norm(op: Op) -> str:
    """Groups as the channels of an instance norm."""
    groups = op.params.num_groups
    rows = op.add("Reshape", op.x, op.vector([0, groups, -1]))
    normed = op.add("InstanceNormalization", rows, _filled(op, groups, 1.0), _filled(op, groups, 0.0), epsilon=op.params.eps)
    return _scaled(op, op.like(normed, op.x))


def _layer_norm(op: Op) -> str:
    wide = len(op.params.normalized_shape)
    sizes = [op.dim(one) for one in op.params.normalized_shape]
    if any(isinstance(one, str) for one in sizes):
        return _standardized(op, op.x, list(range(op.x.rank - wide, op.x.rank)), None)
    literal = [one for one in sizes if isinstance(one, int)]
    scale = op.slot("weight") if "weight" in op.tensors else op.constant(torch.ones(literal, dtype=op.x.dtype))
    bias = [op.slot("bias")] if "bias" in op.tensors else []
    return op.add("LayerNormalization", op.x, scale, *bias, axis=-wide, epsilon=op.params.eps)


def _rms_norm(op: Op) -> str:
    axes = list(range(op.x.rank - len(op.params.normalized_shape), op.x.rank))
    eps = torch.finfo(op.x.dtype).eps if op.params.eps is None else op.params.eps
    mean = op.reduce("Mean", op.add("Mul", op.x, op.x), axes)
    result = op.add("Div", op.x, op.add("Sqrt", op.add("Add", mean, op.constant(float(eps)))))
    return op.add("Mul", result, op.slot("weight")) if "weight" in op.tensors else result


def vector_norm(op: Op, exponent: float, axes: list[int], keep: bool) -> str:
    """The norm of vectors along axes."""
    if exponent in (1, 2):
        return op.reduce(f"L{int(exponent)}", op.x, axes, keep)
    size = op.add("Abs", op.x)
    if exponent in (float("inf"), float("-inf")):
        return op.reduce("Max" if exponent > 0 else "Min", size, axes, keep)
    if exponent == 0:
        there = op.add("Not", op.add("Equal", op.x, op.constant(0.0)))
        return op.reduce("Sum", op.add("Where", there, op.constant(1.0), op.constant(0.0)), axes, keep)
    total = op.reduce("Sum", op.add("Pow", size, op.constant(float(exponent))), axes, keep)
    return op.add("Pow", total, op.constant(1.0 / exponent))


def _normalize(op: Op) -> str:
    dims = op.params.dim if isinstance(op.params.dim, list) else [op.params.dim]
    norm = vector_norm(op, op.params.p, [op.axis(one) for one in dims], keep=True)
    return op.add("Div", op.x, op.add("Max", norm, op.constant(float(op.params.eps))))


def _local_response_norm(op: Op) -> str:
    size = op.params.size
    if size % 2 == 0:
        op.refuse(f"an even number of channels, {size}: ONNX puts the window elsewhere")
    if op.x.rank != 4:
        op.refuse(f"of {op.x.rank} axes: ONNX Runtime takes four")
    return op.add("LRN", op.x, size=size, alpha=op.params.alpha, beta=op.params.beta, bias=op.params.k)


EMITTERS: dict[str, Emitter] = {
    **{f"vn.batchnorm{rank}d": _batchnorm for rank in (1, 2, 3)},
    "vn.instance_norm": _instance_norm,
    "vn.group_norm": _group_norm,
    "vn.layer_norm": _layer_norm,
    "vn.rms_norm": _rms_norm,
    "vn.normalize": _normalize,
    "vn.local_response_norm": _local_response_norm,
}
