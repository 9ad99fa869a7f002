"""The handlers behind `amc_plugins.plugin.transparent` and `barrier`: one line for a module class or a function."""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from amc_plugins.core.errors import PluginError, UnsupportedOpError
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Ref, Value, assign_tensors, plain

__all__ = ["Barrier", "FunctionCall", "Transparent", "find"]

_INPUT, _DTYPE = "amc:input", "amc:dtype"  # keys that no argument of anybody has


def find(dotted: str) -> Any:
    """What a captured name names: an attribute of the longest part that can be imported, or an operator of `torch.ops`.

    Raises:
        PluginError: there is no such thing in this process.
    """
    parts = dotted.replace(":", ".").split(".")
    problem = f"`{parts[0]}` cannot be imported"
    for size in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:size])
        try:
            found: Any = sys.modules.get(module) or importlib.import_module(module)
        except ImportError as error:
            problem = str(error)
            continue
        return _attribute(found, parts[size:], f"`{module}` has no `{'.'.join(parts[size:])}`")
    if parts[0] in dir(torch.ops):  # operators of torch.library are named without their `torch.ops`
        return _attribute(torch.ops, parts, f"`torch.ops` has no `{'.'.join(parts)}`")
    raise PluginError(f"`{'.'.join(parts)}` is needed and cannot be found: {problem}")


def _attribute(found: Any, path: Sequence[str], problem: str) -> Any:
    for name in path:
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise PluginError(problem) from error
    return found


class FunctionCall(nn.Module):
    """A call of somebody's function. `args` and `kwargs` hold `{"amc:input": n}` in place of tensor number n."""

    def __init__(self, function: Callable[..., Any], name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.name = name
        self.args = args
        self.kwargs = kwargs

    def forward(self, *inputs: Tensor, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None) -> Any:
        given = [one.clone() for one in inputs] if self.name.endswith("_") and not self.name.endswith("__") else inputs
        result = self.function(
            *_filled(self.args if args is None else args, given), **_filled(self.kwargs if kwargs is None else kwargs, given)
        )
        outputs = tensors_in(result)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def extra_repr(self) -> str:
        return self.name


def _filled(item: Any, inputs: Sequence[Tensor]) -> Any:
    if isinstance(item, dict):
        if set(item) == {_INPUT}:
            return inputs[item[_INPUT]]
        if set(item) == {_DTYPE}:
            return getattr(torch, item[_DTYPE])
        return {name: _filled(one, inputs) for name, one in item.items()}
    return [_filled(one, inputs) for one in item] if isinstance(item, list | tuple) else item


class _UserOp(LayerHandler):
    """A module class or function of somebody's package that has no handler of its own beyond one line."""

    class Params(BaseModel):
        model_config = ConfigDict(extra="allow")

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copy.deepcopy(call.original)
        numbers = count()  # in the order of the node's inputs

        def held(item: Any) -> Any:
            if isinstance(item, Value):
                return {_INPUT: next(numbers)}
            if isinstance(item, torch.dtype):
                return {_DTYPE: str(item).removeprefix("torch.")}
            if item is None or isinstance(item, bool | int | float | str | Ref):
                return item
            raise Declined(f"{call.target} with a {type(item).__name__} among its arguments, which a file cannot hold")

        args, kwargs = map_leaves(call.args, held), map_leaves(call.kwargs, held)
        return FunctionCall(find(call.target), call.target, plain(args), kwargs)

    def params(self, module: nn.Module) -> BaseModel:
        if isinstance(module, FunctionCall):
            return self.Params(**{"args": module.args, "kwargs": module.kwargs})
        found: dict[str, Any] = {}
        for name, parameter in inspect.signature(type(module).__init__).parameters.items():
            if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if hasattr(module, name) and isinstance(
                getattr(module, name), int | float | str | bool | list | tuple | type(None)
            ):
                found[name] = plain(getattr(module, name))
            elif parameter.default is parameter.empty:
                raise UnsupportedOpError(
                    f"`{self.spec.captures[0]}` cannot be described: its argument `{name}` is not kept as an attribute",
                    hint="keep it as an attribute of the same name, or write a LayerHandler with `params` and `build`",
                )
        return self.Params(**found)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        name = self.spec.captures[0]
        found = find(name)
        given = dict(params.model_extra or {})
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            return FunctionCall(found, name, given["args"], given["kwargs"])
        module: nn.Module = found(**given)
        assign_tensors(module, tensors)
        return module


class Transparent(_UserOp):
    """What `amc_plugins.plugin.transparent` declares: every channel a function of itself."""

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> list[Tensor]:
        laid = inputs[0]
        if len(inputs) > 1:
            laid = ids.tie(*inputs)
        return [laid] * len(ids.output_shapes)


class Barrier(_UserOp):
    """What `amc_plugins.plugin.barrier` declares: nothing that touches it can be removed."""

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Sequence[Tensor]:
        why = f"{self.spec.op}: {self.spec.options['why']}"
        for one in inputs:
            ids.pin(one, why)
        return [ids.fixed(why, output=index) for index in range(len(ids.output_shapes))]
