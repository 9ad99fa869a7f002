"""Functions of each entry alone: exponentials, roots, absolute values, roundings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amc_op_arithmetic import _modules
from amc_plugins.handlers import Call, Declined, ElementwiseHandler

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

__all__ = ["LogicalNotHandler", "UnaryHandler"]


class UnaryHandler(ElementwiseHandler):
    """The function is the name of the op: `vn.exp` is `torch.exp`."""

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        call.bind("input")
        return _modules.Unary(self.spec.name)

    def params(self, module: nn.Module) -> BaseModel:
        return self.Params()

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        return _modules.Unary(self.spec.name)


class LogicalNotHandler(UnaryHandler):
    """`~x` is this for truth values only."""

    def module(self, call: Call) -> nn.Module:
        if call.original is None and "logical" not in call.target and str(call.values()[0].dtype) != "torch.bool":
            raise Declined(f"{call.target} of integers")
        return super().module(call)
