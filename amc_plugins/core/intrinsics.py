"""The operations that belong to the document itself, not to any plugin: sizes, integer arithmetic and what sizes must be,
constants, and opaque calls.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
import torch.fx
from pydantic import Field
from torch import Tensor, nn

from amc_plugins.core.document import Ref
from amc_plugins.core.errors import SizeError, UnsupportedOpError
from amc_plugins.core.specs import AMC_API, LayerHandlerSpec
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.core.tracing import COMPARISONS
from amc_plugins.handlers import ChannelIds, Int, Kept, LayerHandler, Params, Shape

__all__ = [
    "CONSTANT",
    "HANDLERS",
    "INT",
    "INTS",
    "INT_OPS",
    "OPAQUE",
    "REQUIRE",
    "SIZE",
    "Constant",
    "IntArithmetic",
    "Opaque",
    "Require",
    "Size",
    "Slot",
]

SIZE, INT, REQUIRE, CONSTANT, OPAQUE = "vn.size", "vn.int", "vn.require", "vn.constant", "opaque"
INTS = frozenset({SIZE, INT, REQUIRE})
"""The ops that give ints."""

INT_OPS: dict[str, Callable[..., int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
}
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class Size(nn.Module):
    """The size of one axis of a tensor, as an int."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> int:
        return x.shape[self.dim]

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class IntArithmetic(nn.Module):
    """One step of integer arithmetic; operands are literal or computed."""

    def __init__(self, fn: str, operands: list[Int]) -> None:
        super().__init__()
        self.fn = fn
        self.operands = operands

    def forward(self, *, operands: Sequence[int] | None = None) -> int:
        return INT_OPS[self.fn](*(self.operands if operands is None else operands))

    def extra_repr(self) -> str:
        return f"fn={self.fn!r}"


class Require(nn.Module):
    """Holds a network to what was true of sizes when it was recorded: a branch of the original depends on it.

    Args:
        fn: a comparison, of the names in the module `operator`.
        operands: its two ints, literal or computed.
        where: the line of the original that asked.
    """

    def __init__(self, fn: str, operands: list[Int], where: str) -> None:
        super().__init__()
        self.fn = fn
        self.operands = operands
        self.where = where

    def forward(self, *, operands: Sequence[int] | None = None) -> int:
        left, right = cast("Sequence[int]", self.operands) if operands is None else operands
        return required(self.fn, left, right, self.described)

    @property
    def described(self) -> str:
        """The condition with the names of its ints, and the line."""
        left, right = (f"`{one.name}`" if isinstance(one, Ref) else str(one) for one in self.operands)
        return f"{left} {_SIGNS[self.fn]} {right} at {self.where}"

    def extra_repr(self) -> str:
        return self.described


@torch.fx.wrap  # a comparison cannot be traced, a call of a function can
def required(fn: str, left: int, right: int, described: str) -> int:
    """1. Raises `SizeError` where the comparison does not hold."""
    if not COMPARISONS[fn](left, right):
        raise SizeError(
            f"the network was recorded for inputs with {described}; here these are {left} and {right}, and the original may "
            "take another way",
            hint="capture the original on an input of this size",
        )
    return 1


class Constant(nn.Module):
    """A tensor that the network uses directly: a parameter of a module that is not a layer, a buffer, or one made outside.

    With `computed`, a trainable one stands for what the original computes from its parameters. Without gradients that is no
    tensor that requires any, and kernels are chosen by this: attention takes another one for a bias that is a parameter.
    """

    def __init__(self, value: Tensor, trainable: bool = False, computed: bool = False) -> None:
        super().__init__()
        self.trainable = trainable
        self.computed = computed
        if trainable:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value)

    def forward(self) -> Tensor:
        return self.value.detach() if self.computed and not torch.is_grad_enabled() else self.value


class Slot(int):
    """In an opaque call's arguments: the place of input number `n`."""


class Opaque(nn.Module):
    """A call that no handler covers. It runs as recorded; everything around it keeps away from its channels.

    `arguments` is the recorded `(args, kwargs)` with a `Slot` for each input. Inputs that the call would change in
    place are copied first (`mutated`), and returned after the call's own results.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        target: str,
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        mutated: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.call = call
        self.target = target
        self.arguments = arguments
        self.mutated = mutated

    def forward(self, *inputs: Any) -> Any:
        given = list(inputs)
        for index in self.mutated:
            given[index] = given[index].clone()
        args, kwargs = map_leaves(self.arguments, lambda item: given[item] if isinstance(item, Slot) else item)
        result = self.call(*args, **kwargs)
        returned = tensors_in(result)
        outputs = returned + [given[index] for index in self.mutated if not any(given[index] is one for one in returned)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def extra_repr(self) -> str:
        return self.target


class _SizeHandler(LayerHandler):
    class Params(Params):
        dim: int

    module_class = Size

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Sequence[Tensor]:
        return []

    def shapes(self, params: Any, inputs: Sequence[Shape]) -> list[Shape]:
        return []


class _IntHandler(LayerHandler):
    class Params(Params):
        fn: str
        operands: list[Int]

    module_class = IntArithmetic

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Sequence[Tensor]:
        return []


class _RequireHandler(LayerHandler):
    class Params(Params):
        fn: Literal["eq", "ne", "lt", "le", "gt", "ge"]
        operands: list[Int] = Field(min_length=2, max_length=2)
        where: str

    module_class = Require

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Sequence[Tensor]:
        return []


class _ConstantHandler(LayerHandler):
    class Params(Params):
        trainable: bool = False
        computed: bool = False

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        return Constant(tensors["value"].detach().clone(), params.trainable, params.computed)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        # Every entry may turn out to lie on a channel of its own; the op that lays it on an activation ties them.
        fresh: Tensor = ids.fresh(ids.output_shapes[0])  # type: ignore[attr-defined]
        return fresh

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        assert isinstance(module, Constant)
        kept = module.value.detach()
        for axis, index in outputs[0].indices.items():
            kept = kept.index_select(axis, index.to(kept.device))
        return Constant(kept.clone(), module.trainable, module.computed)


class _OpaqueHandler(LayerHandler):
    def params(self, module: nn.Module) -> Params:
        return Params()

    def tensors(self, module: nn.Module) -> dict[str, Tensor]:
        return {}

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        raise UnsupportedOpError(
            "an opaque operation cannot be rebuilt from a file",
            hint="install or write a handler for it; `amc plugins list --kind layer_handlers` shows those that are there",
        )

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> None:
        return None

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Sequence[Tensor]:
        raise AssertionError("the core pins what touches an opaque node")  # so that the reason can name its target and line


def _spec(name: str, op: str, summary: str, handler: type[LayerHandler]) -> LayerHandler:
    return handler(LayerHandlerSpec(name=name, op=op, summary=summary, api=AMC_API, target=f"{__name__}:{handler.__name__}"))


HANDLERS: dict[str, LayerHandler] = {
    SIZE: _spec("size", SIZE, "the size of an axis", _SizeHandler),
    INT: _spec("int", INT, "integer arithmetic", _IntHandler),
    REQUIRE: _spec("require", REQUIRE, "what sizes must be", _RequireHandler),
    CONSTANT: _spec("constant", CONSTANT, "a tensor used directly", _ConstantHandler),
}
# `opaque` is no namespaced op and can be in no file, so its declaration is not validated as one.
HANDLERS[OPAQUE] = _OpaqueHandler(
    LayerHandlerSpec.model_construct(name="opaque", op=OPAQUE, op_version=1, captures=(), options={})
)
