"""Conversions of type: `x.float()`, `x.to(torch.float16)`, `x.type_as(y)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amc_op_arithmetic import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, ElementwiseHandler, Params, Value

__all__ = ["CastHandler"]

_METHODS = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "char": torch.int8,
    "byte": torch.uint8,
    "short": torch.int16,
    "int": torch.int32,
    "long": torch.int64,
    "bool": torch.bool,
}


class CastParams(Params):
    """The type as torch names it (`float32`); None: that of the second input, or none when there is no second."""

    dtype: str | None = None


class CastHandler(ElementwiseHandler):
    """Channels pass. A conversion to the type that the tensor has already changes nothing, whatever the network's type is.

    Moves to another device are not conversions: they are left to `network.to(device)`.
    """

    Params = CastParams
    module_class = _modules.Cast

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        given = call.values()
        target = self._target(call)
        if len(given) > 1:
            if target is not given[1]:
                raise Declined(f"{call.target} with its arguments in another order")
            return _modules.Cast()
        if target is not None and not isinstance(target, torch.dtype):
            raise Declined(f"{call.target} to {target!r}")
        return _modules.Cast(None if target == given[0].dtype else target)

    def _target(self, call: Call) -> Any:
        """The type wanted: a dtype, a tensor that has it, or None for the one that is there."""
        method = call.target.rpartition(".")[2]
        if (memory := call.kwargs.get("memory_format")) not in (None, torch.preserve_format):
            raise Declined(f"{call.target} with `memory_format={memory}`")
        if method in _METHODS:
            call.bind("self", memory_format=None)
            return _METHODS[method]
        if method == "type_as":
            return call.bind("self", "other")["other"]
        if method == "type":
            return call.bind("self", "dtype", non_blocking=False)["dtype"]
        wanted = [one for one in (*call.args[1:], *call.kwargs.values()) if isinstance(one, torch.dtype | Value)]
        wanted = [one for one in wanted if one is not call.values()[0]]
        return wanted[0] if wanted else None

    def params(self, module: nn.Module) -> CastParams:
        dtype: Any = module.dtype
        return CastParams(dtype=None if dtype is None else str(dtype).removeprefix("torch."))

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        return _modules.Cast(None if params.dtype is None else getattr(torch, params.dtype))

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0]
