"""Emitters of element-wise arithmetic. Operands are brought to the type that torch computes in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from amc_onnx_export._graph import ELEMENT_TYPES
from amc_onnx_export._op import Emitter, Op, Value
from amc_plugins.document import Ref

__all__ = ["EMITTERS"]

_WIDE = {torch.int8: torch.int32, torch.uint8: torch.int32, torch.int16: torch.int32}
"""Types that ONNX Runtime does not compare in."""


def _operand(op: Op, given: Any, dtype: torch.dtype) -> Value:
    """A tensor or a number in the type `dtype`."""
    if isinstance(given, Value):
        return op.cast(given, dtype)
    if isinstance(given, Ref):
        return Value(op.scalar(op.dim(given), dtype), dtype, ())
    return Value(op.constant(given, dtype), dtype, ())


def _pair(op: Op, dtype: torch.dtype | None = None) -> tuple[Value, Value]:
    """Both operands in the order of the operation, in the type of the result unless another is given."""
    first, second = op.inputs[0], op.inputs[1] if len(op.inputs) > 1 else op.params.other
    operands = (second, first) if op.params.reversed else (first, second)
    left, right = (_operand(op, one, dtype or op.out.dtype) for one in operands)
    return left, right


def _binary(kind: str) -> Emitter:
    def emit(op: Op) -> str:
        return op.add(kind, *_pair(op))

    return emit


def _sum(kind: str, of_bools: str | None) -> Emitter:
    def emit(op: Op) -> str:
        left, right = _pair(op)
        if op.out.dtype == torch.bool:
            return op.add(of_bools, left, right) if of_bools and op.params.alpha == 1 else op.refuse("of truth values")
        if op.params.alpha != 1:
            right = Value(op.add("Mul", right, op.constant(op.params.alpha, op.out.dtype)), op.out.dtype, right.shape)
        return op.add(kind, left, right)

    return emit


def _mul(op: Op) -> str:
    return op.add("And" if op.out.dtype == torch.bool else "Mul", *_pair(op))


def _opposite(op: Op, rest: str, divisor: Value) -> str:
    """Whether a rest is not zero and has another sign than the divisor."""
    zero = op.constant(0, divisor.dtype)
    signs = op.add("Xor", op.add("Less", rest, zero), op.add("Less", divisor, zero))
    return op.add("And", signs, op.add("Not", op.add("Equal", rest, zero)))


def _floored(op: Op) -> str:
    """x // y as torch computes it: from the rest of the division, so that rounding does not cross an integer."""
    left, right = _pair(op)
    rest = op.add("Mod", left, right, fmod=int(left.floating))
    whole = op.add("Div", op.add("Sub", left, rest), right)
    if not left.floating:
        return whole  # ONNX's Mod of integers has the sign of the divisor
    one_less = op.add("Cast", _opposite(op, rest, right), to=ELEMENT_TYPES[left.dtype])
    return op.add("Round", op.add("Sub", whole, one_less))


def _remainder(op: Op) -> str:
    left, right = _pair(op)
    if not left.floating:
        return op.add("Mod", left, right)
    rest = op.add("Mod", left, right, fmod=1)
    return op.add("Where", _opposite(op, rest, right), op.add("Add", rest, right), rest)


def _div(op: Op) -> str:
    mode = op.params.rounding_mode
    if mode == "floor":
        return _floored(op)
    quotient = op.add("Div", *_pair(op))
    if mode is None or not op.out.floating:
        return quotient
    return op.add("Mul", op.add("Sign", quotient), op.add("Floor", op.add("Abs", quotient)))


def _sample(value: Value) -> torch.Tensor:
    return torch.empty([1] * value.rank, dtype=value.dtype, device="meta")


def _compare(kind: str, negate: bool = False) -> Emitter:
    def emit(op: Op) -> str:
        second = op.inputs[1] if len(op.inputs) > 1 else op.params.other
        other = _sample(second) if isinstance(second, Value) else 0 if isinstance(second, Ref) else second
        dtype = torch.result_type(_sample(op.x), other)
        dtype = _WIDE.get(dtype, torch.int32 if dtype == torch.bool and kind != "Equal" else dtype)
        answer = op.add(kind, *_pair(op, dtype))
        return op.add("Not", answer) if negate else answer

    return emit


def _logical(kind: str) -> Emitter:
    def emit(op: Op) -> str:
        return op.add(kind, *_pair(op, torch.bool))

    return emit


def _roles(op: Op) -> dict[str, Any]:
    return {**op.params.model_dump(exclude={"roles"}), **dict(zip(op.params.roles, op.inputs, strict=True))}


def _given(op: Op, name: str) -> Value:
    return _operand(op, _roles(op)[name], op.out.dtype)


def _where(op: Op) -> str:
    condition = op.cast(_roles(op)["condition"], torch.bool)
    return op.add("Where", condition, _given(op, "input"), _given(op, "other"))


def _masked_fill(op: Op) -> str:
    return op.add("Where", op.cast(_roles(op)["mask"], torch.bool), _given(op, "value"), _given(op, "input"))


def _clamp(op: Op) -> str:
    low, high = (getattr(op.params, name) for name in ("min", "max"))
    if len(op.inputs) == 1 and not isinstance(low, Ref) and not isinstance(high, Ref):
        bounds = ["" if one is None else op.constant(one, op.out.dtype) for one in (low, high)]
        return op.add("Clip", op.cast(op.x, op.out.dtype), *bounds)
    result: str | Value = _given(op, "input")
    for name, kind in (("min", "Max"), ("max", "Min")):
        if _roles(op)[name] is not None:
            result = op.add(kind, result, _given(op, name))
    return result if isinstance(result, str) else result.name


def _addcmul(op: Op) -> str:
    product: str | Value = op.add("Mul", _given(op, "tensor1"), _given(op, "tensor2"))
    if op.params.value != 1:
        product = op.add("Mul", product, op.constant(op.params.value, op.out.dtype))
    return op.add("Add", _given(op, "input"), product)


def _cast(op: Op) -> str:
    return op.cast(op.x, op.out.dtype).name


def _unary(compute: Callable[[Op, Value], str]) -> Emitter:
    def emit(op: Op) -> str:
        return compute(op, op.cast(op.x, op.out.dtype))

    return emit


def _node(kind: str) -> Emitter:
    return _unary(lambda op, x: op.add(kind, x))


def _rounding(kind: str) -> Emitter:
    return _unary(lambda op, x: op.add(kind, x) if x.floating else x.name)


def _logical_not(op: Op) -> str:
    return op.add("Not", op.cast(op.x, torch.bool))


EMITTERS: dict[str, Emitter] = {
    "vn.add": _sum("Add", "Or"),
    "vn.sub": _sum("Sub", None),
    "vn.mul": _mul,
    "vn.div": _div,
    "vn.pow": _binary("Pow"),
    "vn.floor_divide": _floored,
    "vn.remainder": _remainder,
    "vn.maximum": _binary("Max"),
    "vn.minimum": _binary("Min"),
    "vn.eq": _compare("Equal"),
    "vn.ne": _compare("Equal", negate=True),
    "vn.lt": _compare("Less"),
    "vn.le": _compare("LessOrEqual"),
    "vn.gt": _compare("Greater"),
    "vn.ge": _compare("GreaterOrEqual"),
    "vn.logical_and": _logical("And"),
    "vn.logical_or": _logical("Or"),
    "vn.logical_xor": _logical("Xor"),
    "vn.logical_not": _logical_not,
    "vn.where": _where,
    "vn.masked_fill": _masked_fill,
    "vn.clamp": _clamp,
    "vn.addcmul": _addcmul,
    "vn.cast": _cast,
    "vn.exp": _node("Exp"),
    "vn.expm1": _unary(lambda op, x: op.add("Sub", op.add("Exp", x), op.constant(1, x.dtype))),
    "vn.log": _node("Log"),
    "vn.log1p": _unary(lambda op, x: op.add("Log", op.add("Add", x, op.constant(1, x.dtype)))),
    "vn.log2": _unary(lambda op, x: op.add("Div", op.add("Log", x), op.constant(math.log(2.0), x.dtype))),
    "vn.sqrt": _node("Sqrt"),
    "vn.rsqrt": _unary(lambda op, x: op.add("Reciprocal", op.add("Sqrt", x))),
    "vn.square": _unary(lambda op, x: op.add("Mul", x, x)),
    "vn.reciprocal": _node("Reciprocal"),
    "vn.neg": _node("Neg"),
    "vn.abs": _node("Abs"),
    "vn.sign": _node("Sign"),
    "vn.sin": _node("Sin"),
    "vn.cos": _node("Cos"),
    "vn.erf": _node("Erf"),
    "vn.floor": _rounding("Floor"),
    "vn.ceil": _rounding("Ceil"),
    "vn.round": _rounding("Round"),
}
