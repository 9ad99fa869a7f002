"""Element-wise operations on two operands: channels that are laid on each other live and die together."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch

from amc_op_arithmetic import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params, Ref, Shape, Value, broadcast_shape

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

__all__ = [
    "AddHandler",
    "CompareHandler",
    "DivHandler",
    "FloorDivHandler",
    "MaximumHandler",
    "MinimumHandler",
    "MulHandler",
    "PowHandler",
    "RemainderHandler",
    "SubHandler",
    "number",
]

_SWAPPED = frozenset(("rsub", "__rsub__", "__rdiv__", "__rtruediv__", "__rpow__", "__rfloordiv__", "__rmod__"))


class ElementwiseParams(Params):
    """`other` is the number in place of a second tensor; `reversed` swaps the operands."""

    other: bool | int | float | Ref | None = None
    reversed: bool = False


class SumParams(ElementwiseParams):
    """`alpha` multiplies the second operand."""

    alpha: bool | int | float = 1


class QuotientParams(ElementwiseParams):
    """`rounding_mode` as in `torch.div`."""

    rounding_mode: Literal["trunc", "floor"] | None = None


class _ArithmeticHandler(LayerHandler):
    Params: ClassVar[type[BaseModel]] = ElementwiseParams
    second: ClassVar[str] = "other"
    """What the functions call the second operand."""
    extra: ClassVar[dict[str, Any]] = {}
    """Arguments of the functions beyond the operands, with their defaults."""

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self._copied(call, call.original)
        bound = call.bind("input", self.second, **self.extra)
        first, second = bound.pop("input"), bound.pop(self.second)
        if bound.get("alpha") is not None:
            bound["alpha"] = number(call, bound["alpha"])
            if isinstance(bound["alpha"], Ref):
                raise Declined(f"{call.target} with a computed `alpha`")
        method = call.target.rpartition(".")[2]
        swapped = method in _SWAPPED
        # Inputs come in call order: `torch.sub(other=y, input=x)` hands in y first.
        order = [one for one in (*call.args, *call.kwargs.values()) if isinstance(one, Value)]
        if len(order) == 2 and (order[0] is not first):
            swapped = not swapped
        if len(order) == 1 and order[0] is second:
            swapped, second = not swapped, first
        _in_place(call, method, first, second)
        other = None if isinstance(second, Value) else number(call, second)
        return self.made(other=other, reversed=swapped, **bound)

    def made(self, **params: Any) -> nn.Module:
        """The module with these parameters."""
        assert self.module_class is not None
        return self.module_class(**params)

    def _copied(self, call: Call, original: nn.Module) -> nn.Module:
        """A copy of a module of this package; a number in its call becomes its `other`."""
        bound = call.bind("x", y=None, other=None)
        made = cast("_modules.Elementwise", copy.deepcopy(original))
        given = bound["y"] if bound["y"] is not None else bound["other"]
        if given is not None:
            made.other = None if isinstance(given, Value) else number(call, given)
        return made

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        shape = broadcast_shape(*inputs)
        return None if shape is None else [shape]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return ids.tie(*inputs) if len(inputs) > 1 else inputs[0]


class AddHandler(_ArithmeticHandler):
    """x + alpha * y"""

    Params = SumParams
    module_class = _modules.ElemAdd
    extra: ClassVar[dict[str, Any]] = {"alpha": 1}


class SubHandler(_ArithmeticHandler):
    """x - alpha * y"""

    Params = SumParams
    module_class = _modules.ElemSub
    extra: ClassVar[dict[str, Any]] = {"alpha": 1}


class MulHandler(_ArithmeticHandler):
    """x * y: a gate of shape (N, C, 1, 1) goes with the channels that it multiplies."""

    module_class = _modules.ElemMul


class DivHandler(_ArithmeticHandler):
    """x / y"""

    Params = QuotientParams
    module_class = _modules.ElemDiv
    extra: ClassVar[dict[str, Any]] = {"rounding_mode": None}


class PowHandler(_ArithmeticHandler):
    """x ** y"""

    module_class = _modules.ElemPow
    second = "exponent"


class FloorDivHandler(_ArithmeticHandler):
    """x // y"""

    module_class = _modules.ElemFloorDiv


class RemainderHandler(_ArithmeticHandler):
    """x % y"""

    module_class = _modules.ElemRemainder


class MaximumHandler(_ArithmeticHandler):
    """The larger entry of two tensors."""

    module_class = _modules.ElemMaximum


class MinimumHandler(_ArithmeticHandler):
    """The smaller entry of two tensors."""

    module_class = _modules.ElemMinimum


class CompareHandler(_ArithmeticHandler):
    """A comparison or a logical operation; the relation is the name of the op. Its channels are those that it compares."""

    def module(self, call: Call) -> nn.Module:
        bits = any(
            part in call.target for part in ("bitwise", "__and__", "__or__", "__xor__", "__rand__", "__ror__", "__rxor__")
        )
        if bits and any(value.dtype != torch.bool for value in call.values()):
            raise Declined(f"{call.target} of integers")
        return super().module(call)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> None:
        return None  # what comes after it needs a tensor of truth values

    def made(self, **params: Any) -> nn.Module:
        return _modules.Compare(self.spec.name, **params)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        return self.made(other=params.other, reversed=params.reversed)


def number(call: Call, value: Any) -> Any:
    """A Python number (numpy's scalars become one) or a `Ref`."""
    if isinstance(value, bool | Ref):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise Declined(f"{call.target} with {value!r}")


def _in_place(call: Call, method: str, first: Any, second: Any) -> None:
    """Refuse what keeps its type only in place: `half += float` stays half, `half + float` does not."""
    in_place = method.endswith("_") and not method.endswith("__")
    if not (in_place or method in ("__iadd__", "__isub__", "__imul__", "__itruediv__")) or not isinstance(first, Value):
        return
    if isinstance(second, Ref):
        second = 1
    operands = [
        torch.empty(one.shape, dtype=one.dtype, device="meta") if isinstance(one, Value) else one for one in (first, second)
    ]
    result = torch.result_type(*operands)
    if result != first.dtype:
        raise Declined(f"{call.target} in place, where {first.dtype} and {result} meet")
