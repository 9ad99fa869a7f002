"""Element-wise operations on three operands, of which some may be numbers: `where`, `masked_fill`, `clamp`, `addcmul`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from amc_op_arithmetic import _modules
from amc_op_arithmetic._handlers import number
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Params, Ref, Shape, Value, broadcast_shape

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

__all__ = ["AddProductHandler", "ClampHandler", "MaskedFillHandler", "WhereHandler"]

Number = bool | int | float | None


class WhereParams(Params):
    """`roles`: which operand each tensor of the call is; the others are the numbers given here."""

    roles: list[str]
    input: Number = None
    other: Number = None


class MaskedFillParams(Params):
    """`roles` as in `WhereParams`."""

    roles: list[str]
    value: Number = None


class ClampParams(Params):
    """`roles` as in `WhereParams`. A bound may be computed when the network runs."""

    roles: list[str]
    min: Number | Ref = None
    max: Number | Ref = None


class AddProductParams(Params):
    """`roles` as in `WhereParams`."""

    roles: list[str]
    value: Number = 1


class _ChoiceHandler(LayerHandler):
    """All tensors are laid on each other, so their channels are tied."""

    tensors_only: ClassVar[tuple[str, ...]] = ()
    """Operands that cannot be numbers."""

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return self.Params(roles=one.roles, **one.numbers)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        if params.roles[0] == "condition":
            return None  # a rule's outputs have the type of the first input, and this one holds truth values
        shape = broadcast_shape(*inputs)
        return None if shape is None else [shape]

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return ids.tie(*inputs) if len(inputs) > 1 else inputs[0]

    def made(self, call: Call, bound: Mapping[str, Any]) -> nn.Module:
        """The module for operands by name: tensors become roles, the rest numbers."""
        named = {id(value): name for name, value in bound.items() if isinstance(value, Value)}
        roles = [named[id(value)] for value in call.values() if id(value) in named]
        if len(roles) != len(call.values()) or any(name not in roles for name in self.tensors_only):
            raise Declined(f"{call.target} with a number where a tensor was expected")
        numbers = {name: None if value is None else number(call, value) for name, value in bound.items() if name not in roles}
        if any(isinstance(value, Ref) and name not in ("min", "max") for name, value in numbers.items()):
            raise Declined(f"{call.target} with a computed number")
        assert self.module_class is not None
        return self.module_class(roles=roles, **numbers)


class WhereHandler(_ChoiceHandler):
    """`torch.where` with three arguments; with a condition alone it is declined."""

    Params = WhereParams
    module_class = _modules.Where
    tensors_only = ("condition",)

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        if call.target.startswith("torch.Tensor."):
            return self.made(call, call.bind("input", "condition", "other"))
        return self.made(call, call.bind("condition", "input", "other"))


class MaskedFillHandler(_ChoiceHandler):
    """`masked_fill` with a number or a tensor of one entry."""

    Params = MaskedFillParams
    module_class = _modules.MaskedFill
    tensors_only = ("input", "mask")

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        return self.made(call, call.bind("input", "mask", "value"))


class ClampHandler(_ChoiceHandler):
    """`clamp`, `clip`, `clamp_min`, `clamp_max`, with numbers or tensors as bounds."""

    Params = ClampParams
    module_class = _modules.Clamp
    tensors_only = ("input",)

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        name = call.target.rpartition(".")[2].rstrip("_")
        if name in ("clamp_min", "clamp_max"):
            return self.made(call, call.bind("input", name.removeprefix("clamp_")))
        return self.made(call, call.bind("input", min=None, max=None))


class AddProductHandler(_ChoiceHandler):
    """`torch.addcmul`."""

    Params = AddProductParams
    module_class = _modules.AddProduct
    tensors_only = ("input", "tensor1", "tensor2")

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        return self.made(call, call.bind("input", "tensor1", "tensor2", value=1))
