"""`vn.matmul` (also `bmm`, `mm`, `@`) and `vn.addmm` (also `baddbmm`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from amc_op_attention import _modules
from amc_op_attention._contract import contracted
from amc_plugins.handlers import (
    Call,
    ChannelIds,
    Declined,
    Kept,
    LayerHandler,
    Params,
    Shape,
    Value,
    assign_tensors,
    broadcast_shape,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["AddMatmulHandler", "MatmulHandler"]


class MatmulParams(Params):
    """`weight` is the shape (c, n) of a constant matrix on the right; `reversed` swaps the operands."""

    weight: list[int] | None = None
    reversed: bool = False


class AddMatmulParams(Params):
    """`roles`: which of `input`, `a`, `b` each tensor of the call is."""

    roles: list[str]
    beta: int | float = 1
    alpha: int | float = 1
    stacked: bool = False


class MatmulHandler(LayerHandler):
    """A product of two tensors ties the channels that it sums over. By a constant matrix it is a layer that makes channels."""

    Params = MatmulParams
    module_class = _modules.MatrixProduct

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        first, second = _operands(call)
        if not isinstance(first, Value) or not isinstance(second, Value):
            raise Declined(f"{call.target} of something other than two tensors")
        if second.constant is not None and len(second.shape) == 2 and first.constant is None and len(first.shape) > 1:
            weight = call.take(second)
            return _modules.MatrixProduct(weight, trainable=second.constant.requires_grad)
        return _modules.MatrixProduct(reversed=call.values()[0] is not first)

    def params(self, module: nn.Module) -> MatmulParams:
        one: Any = module
        return MatmulParams(weight=None if one.weight is None else list(one.weight.shape), reversed=one.reversed)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        weight = None if params.weight is None else torch.empty(params.weight, device="meta")
        module = _modules.MatrixProduct(weight, params.reversed)
        assign_tensors(module, tensors)
        return module

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        if params.weight is not None:
            return [(*inputs[0][:-1], params.weight[1])]
        left, right = reversed(inputs) if params.reversed else inputs
        if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
            return None
        stack = broadcast_shape(left[:-2], right[:-2])
        return None if stack is None else [(*stack, left[-2], right[-1])]

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        left = inputs[1] if params.reversed else inputs[0]
        return prod(outputs[0]) * left[-1]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        if params.weight is not None:
            ids.channels(inputs[0], -1)
            return ids.new(params.weight[1], axis=-1)
        left, right = reversed(inputs) if params.reversed else inputs
        return product(left, right, ids, self.spec.op)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        if one.weight is None:
            return module
        weight = one.weight.detach()
        rows, columns = inputs[0].axis(-1).to(weight.device), outputs[0].axis(-1).to(weight.device)
        return _modules.MatrixProduct(weight[rows[:, None], columns], trainable=one.weight.requires_grad)


class AddMatmulHandler(LayerHandler):
    """`addmm` and `baddbmm`: a product of matrices, and what is added to it."""

    Params = AddMatmulParams
    module_class = _modules.AddMatrixProduct

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        names = ("input", "batch1", "batch2") if "baddbmm" in call.target else ("input", "mat1", "mat2")
        bound = call.bind(*names, beta=1, alpha=1)
        roles = {id(bound[name]): role for name, role in zip(names, ("input", "a", "b"), strict=True)}
        if not all(isinstance(bound[name], int | float) for name in ("beta", "alpha")):
            raise Declined(f"{call.target} with computed factors")
        factors = {name: bound[name] for name in ("beta", "alpha")}
        stacked = names[1] == "batch1"
        return _modules.AddMatrixProduct([roles[id(value)] for value in call.values()], **factors, stacked=stacked)

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        return prod(outputs[0]) * int(inputs[params.roles.index("a")][-1])

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = dict(zip(params.roles, inputs, strict=True))
        return ids.tie(product(given["a"], given["b"], ids, self.spec.op), given["input"])


def product(left: Tensor, right: Tensor, ids: ChannelIds, op: str) -> Tensor:
    """The ids of `left @ right`."""
    rank = max(left.dim(), right.dim())
    stack = "abcdefgh"[: max(0, rank - 2)]
    names = [f"{stack[len(stack) - max(0, one.dim() - 2) :]}" for one in (left, right)]
    rows, columns = "m" if left.dim() > 1 else "", "n" if right.dim() > 1 else ""
    return contracted([left, right], [f"{names[0]}{rows}k", f"{names[1]}k{columns}"], f"{stack}{rows}{columns}", ids, op)


def _operands(call: Call) -> tuple[Any, Any]:
    names = {"mm": ("input", "mat2"), "bmm": ("input", "mat2")}
    first, second = names.get(call.target.rpartition(".")[2], ("input", "other"))
    bound = call.bind(first, second)
    swapped = call.target.endswith("__rmatmul__")
    return (bound[second], bound[first]) if swapped else (bound[first], bound[second])
