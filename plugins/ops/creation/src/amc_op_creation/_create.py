"""Tensors of computed sizes: constants, ranges, identity matrices. Nothing of them can be removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amc_op_creation import _modules
from amc_plugins.handlers import Call, ChannelIds, Declined, Int, LayerHandler, Params, Ref, Shape, plain

__all__ = ["ArangeHandler", "EyeHandler", "FullHandler", "FullLikeHandler", "LinspaceHandler", "NumbersHandler"]

Number = Ref | int | float
_UNUSED = {"device": None, "layout": None, "requires_grad": False, "pin_memory": False, "memory_format": None, "out": None}
_FILLS = {"zeros": 0, "ones": 1, "zero_": 0}


class FullParams(Params):
    """`dtype` as torch names it (`float32`)."""

    size: list[Int]
    value: bool | int | float
    dtype: str


class FullLikeParams(Params):
    """None: as the tensor that it is like."""

    value: bool | int | float
    size: list[Int] | None = None
    dtype: str | None = None


class ArangeParams(Params):
    """As in `torch.arange`."""

    start: Number
    end: Number
    step: Number
    dtype: str


class LinspaceParams(Params):
    """As in `torch.linspace`."""

    start: Number
    end: Number
    steps: Int
    dtype: str


class EyeParams(Params):
    """As in `torch.eye`."""

    n: Int
    m: Int
    dtype: str


class NumbersParams(Params):
    """A number, or lists of numbers at any depth."""

    data: Any
    dtype: str


class _MadeHandler(LayerHandler):
    def params(self, module: nn.Module) -> Any:
        one: Any = module
        found = {name: getattr(one, name) for name in self.Params.model_fields}
        return self.Params(**{**found, "dtype": _name(one.dtype)})

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        assert self.module_class is not None
        given = {name: getattr(params, name) for name in self.Params.model_fields}
        return self.module_class(**{**given, "dtype": None if params.dtype is None else getattr(torch, params.dtype)})

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return ids.fixed(f"made by {self.spec.op}")


class FullHandler(_MadeHandler):
    """`torch.zeros`, `ones` and `full`."""

    Params = FullParams
    module_class = _modules.Full

    def module(self, call: Call) -> nn.Module:
        name, kwargs = call.target.rpartition(".")[2], dict(call.kwargs)
        dtype = _dtype(call, kwargs)
        size, value = _size_and_value(call, name, list(call.args), kwargs)
        if dtype is None:
            whole = name == "full" and isinstance(value, int)
            dtype = (torch.bool if isinstance(value, bool) else torch.int64) if whole else torch.get_default_dtype()
        return _modules.Full(size, value, dtype)

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape] | None:
        return None if any(isinstance(one, Ref) for one in params.size) else [tuple(params.size)]


class FullLikeHandler(_MadeHandler):
    """`zeros_like(x)` and its like have the channels of x; `x.new_zeros(size)` takes only the type from x."""

    Params = FullLikeParams
    module_class = _modules.FullLike

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        name, kwargs = call.target.rpartition(".")[2], dict(call.kwargs)
        dtype = _dtype(call, kwargs)
        args = list(call.args)
        for first in ("input", "self"):
            if first in kwargs:
                args.insert(0, kwargs.pop(first))
        given = args[0]
        if len(call.values()) != 1 or call.values()[0] is not given:
            raise Declined(f"{call.target} with several tensors")
        dtype = None if dtype == given.dtype else dtype
        if name.startswith("new_"):
            size, value = _size_and_value(call, name.removeprefix("new_"), args[1:], kwargs)
            return _modules.FullLike(value, size, dtype)
        value = _FILLS.get(
            name.removesuffix("_like"), kwargs.pop("fill_value", kwargs.pop("value", args[1] if args[1:] else None))
        )
        if kwargs or not isinstance(value, bool | int | float):
            raise Declined(f"{call.target} with {value!r} and {sorted(kwargs)}")
        return _modules.FullLike(value, None, dtype)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0] if params.size is None else super().channels(params, inputs, ids)


class ArangeHandler(_MadeHandler):
    """Of whole numbers unless one of the bounds is not."""

    Params = ArangeParams
    module_class = _modules.Arange

    def module(self, call: Call) -> nn.Module:
        kwargs = dict(call.kwargs)
        dtype = _dtype(call, kwargs)
        args = list(call.args)
        if len(args) == 1:
            args.insert(0, kwargs.pop("start", 0))
        bound = {"start": 0, "step": 1, **dict(zip(("start", "end", "step"), args, strict=False)), **kwargs}
        if set(bound) != {"start", "end", "step"} or not all(isinstance(one, Number) for one in bound.values()):
            raise Declined(f"{call.target} with {bound}")
        if dtype is None:
            dtype = torch.get_default_dtype() if any(isinstance(one, float) for one in bound.values()) else torch.int64
        return _modules.Arange(**bound, dtype=dtype)


class LinspaceHandler(_MadeHandler):
    """Evenly spaced numbers, both ends included."""

    Params = LinspaceParams
    module_class = _modules.Linspace

    def module(self, call: Call) -> nn.Module:
        kwargs = dict(call.kwargs)
        dtype = _dtype(call, kwargs) or torch.get_default_dtype()
        bound = {**dict(zip(("start", "end", "steps"), call.args, strict=False)), **kwargs}
        if set(bound) != {"start", "end", "steps"} or not all(isinstance(one, Number) for one in bound.values()):
            raise Declined(f"{call.target} with {bound}")
        return _modules.Linspace(**bound, dtype=dtype)


class EyeHandler(_MadeHandler):
    """Ones on the diagonal."""

    Params = EyeParams
    module_class = _modules.Eye

    def module(self, call: Call) -> nn.Module:
        kwargs = dict(call.kwargs)
        dtype = _dtype(call, kwargs) or torch.get_default_dtype()
        bound = {**dict(zip(("n", "m"), call.args, strict=False)), **kwargs}
        bound["m"] = bound.get("m", bound.get("n"))
        if set(bound) != {"n", "m"} or not all(isinstance(one, Int) for one in bound.values()):
            raise Declined(f"{call.target} with {bound}")
        return _modules.Eye(**bound, dtype=dtype)


class NumbersHandler(_MadeHandler):
    """`torch.tensor` of computed numbers."""

    Params = NumbersParams
    module_class = _modules.Numbers

    def module(self, call: Call) -> nn.Module:
        kwargs = dict(call.kwargs)
        dtype = _dtype(call, kwargs)
        if len(call.args) != 1 or kwargs or call.values():
            raise Declined(f"{call.target} of tensors")
        data = plain(call.args[0])
        numbers = _numbers(data)
        if not all(isinstance(one, Number) for one in numbers):
            raise Declined(f"{call.target} of {data!r}")
        if dtype is None:
            dtype = torch.get_default_dtype() if any(isinstance(one, float) for one in numbers) else torch.int64
        return _modules.Numbers(data, dtype)


def _numbers(data: Any) -> list[Any]:
    return [one for item in data for one in _numbers(item)] if isinstance(data, list) else [data]


def _dtype(call: Call, kwargs: dict[str, Any]) -> torch.dtype | None:
    """The type asked for; takes it and what does not matter to a recorded network out of the keywords."""
    for name, default in _UNUSED.items():
        if name in ("memory_format", "out") and kwargs.get(name) not in (None, torch.preserve_format):
            raise Declined(f"{call.target} with `{name}`")
        if name == "requires_grad" and kwargs.get(name, default):
            raise Declined(f"{call.target} with `{name}`")
        kwargs.pop(name, None)
    dtype = kwargs.pop("dtype", None)
    if not isinstance(dtype, torch.dtype | None):
        raise Declined(f"{call.target} with {dtype!r} for `dtype`")
    return dtype


def _size_and_value(call: Call, name: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Any]:
    """Of `zeros(2, 3)`, `zeros((2, 3))`, `zeros(size=(2, 3))`, `full((2, 3), 0.5)`."""
    value = _FILLS.get(name)
    if value is None:
        value = kwargs.pop("fill_value") if "fill_value" in kwargs else args.pop() if len(args) == 2 else None
    size: Any = kwargs.pop("size", args)
    if len(size) == 1 and isinstance(size[0], list | tuple):
        size = size[0]
    if kwargs or not isinstance(value, bool | int | float) or not all(isinstance(one, Int) for one in size):
        raise Declined(f"{call.target} of {size!r} with {value!r} and {sorted(kwargs)}")
    return list(size), value


def _name(dtype: torch.dtype | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")
