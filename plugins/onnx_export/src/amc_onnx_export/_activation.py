"""Emitters of activations, softmax and of what changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

from amc_onnx_export._op import Emitter, Op

__all__ = ["EMITTERS"]


def _plain(kind: str, *fields: str) -> Emitter:
    """One ONNX node whose attributes are parameters of the same names."""

    def emit(op: Op) -> str:
        return op.add(kind, op.x, **{name: getattr(op.params, name) for name in fields})

    return emit


def _clip(bounds: Callable[[Op], tuple[float, float]]) -> Emitter:
    def emit(op: Op) -> str:
        low, high = bounds(op)
        return op.add("Clip", op.x, op.constant(low, op.x.dtype), op.constant(high, op.x.dtype))

    return emit


def _nothing(op: Op) -> str:
    return op.x.name


def _silu(op: Op) -> str:
    return op.add("Mul", op.x, op.add("Sigmoid", op.x))


def _gelu(op: Op) -> str:
    half = op.constant(0.5)
    if op.params.approximate == "tanh":
        cube = op.add("Mul", op.add("Mul", op.x, op.x), op.x)
        inner = op.add("Add", op.x, op.add("Mul", cube, op.constant(0.044715)))
        share = op.add("Tanh", op.add("Mul", inner, op.constant(math.sqrt(2.0 / math.pi))))
    else:
        share = op.add("Erf", op.add("Div", op.x, op.constant(math.sqrt(2.0))))
    return op.add("Mul", op.add("Mul", op.x, op.add("Add", share, op.constant(1.0))), half)


def _mish(op: Op) -> str:
    return op.add("Mul", op.x, op.add("Tanh", op.add("Softplus", op.x)))


def _softplus(op: Op) -> str:
    scaled = op.add("Mul", op.x, op.constant(float(op.params.beta)))
    smooth = op.add("Div", op.add("Softplus", scaled), op.constant(float(op.params.beta)))
    if op.params.threshold >= 17.0:  # beyond it log(1 + exp(x)) is x in float32
        return smooth
    return op.add("Where", op.add("Greater", scaled, op.constant(float(op.params.threshold))), op.x, smooth)


def _log_sigmoid(op: Op) -> str:
    return op.add("Neg", op.add("Softplus", op.add("Neg", op.x)))


def _hardshrink(op: Op) -> str:
    return op.add("Shrink", op.x, lambd=op.params.lambd, bias=0.0)


def _softshrink(op: Op) -> str:
    return op.add("Shrink", op.x, lambd=op.params.lambd, bias=op.params.lambd)


def _tanhshrink(op: Op) -> str:
    return op.add("Sub", op.x, op.add("Tanh", op.x))


def _hardsigmoid(op: Op) -> str:
    return op.add("HardSigmoid", op.x, alpha=1.0 / 6.0, beta=0.5)


def _prelu(op: Op) -> str:
    if op.params.num_parameters == 1 or op.x.rank <= 2:
        return op.add("PRelu", op.x, op.slot("weight"))
    ones = [1] * (op.x.rank - 2)
    return op.add("PRelu", op.x, op.slot("weight", lambda one: one.reshape(-1, *ones), f"{op.x.rank}d"))


def _glu(op: Op) -> str:
    left, right = op.add_many("Split", op.x, count=2, axis=op.axis(op.params.dim), num_outputs=2)
    return op.add("Mul", left, op.add("Sigmoid", right))


def _softmax(kind: str) -> Emitter:
    def emit(op: Op) -> str:
        return op.add(kind, op.x, axis=op.axis(op.params.dim)) if op.x.rank else op.refuse("of a single number")

    return emit


EMITTERS: dict[str, Emitter] = {
    "vn.relu": _plain("Relu"),
    "vn.relu6": _clip(lambda op: (0.0, 6.0)),
    "vn.leaky_relu": lambda op: op.add("LeakyRelu", op.x, alpha=float(op.params.negative_slope)),
    "vn.elu": lambda op: op.add("Elu", op.x, alpha=float(op.params.alpha)),
    "vn.celu": lambda op: op.add("Celu", op.x, alpha=float(op.params.alpha)),
    "vn.selu": _plain("Selu"),
    "vn.silu": _silu,
    "vn.gelu": _gelu,
    "vn.hardswish": _plain("HardSwish"),
    "vn.hardsigmoid": _hardsigmoid,
    "vn.hardtanh": _clip(lambda op: (op.params.min_val, op.params.max_val)),
    "vn.tanh": _plain("Tanh"),
    "vn.sigmoid": _plain("Sigmoid"),
    "vn.mish": _mish,
    "vn.softplus": _softplus,
    "vn.softsign": _plain("Softsign"),
    "vn.logsigmoid": _log_sigmoid,
    "vn.hardshrink": _hardshrink,
    "vn.softshrink": _softshrink,
    "vn.tanhshrink": _tanhshrink,
    "vn.prelu": _prelu,
    "vn.glu": _glu,
    "vn.softmax": _softmax("Softmax"),
    "vn.log_softmax": _softmax("LogSoftmax"),
    "vn.dropout": _nothing,
    "vn.identity": _nothing,
}
