"""The operations that belong to the document itself, not to any plugin: sizes, integer arithmetic, constants, and
opaque calls.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from amc_plugins.core.errors import UnsupportedOpError
from amc_plugins.core.specs import AMC_API, LayerHandlerSpec
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.handlers import ChannelIds, Int, Kept, LayerHandler, Params, Shape

__all__ = ["CONSTANT", "HANDLERS", "INT", "INT_OPS", "OPAQUE", "SIZE", "Constant", "IntArithmetic", "Opaque", "Size", "Slot"]

SIZE, INT, CONSTANT, OPAQUE = "vn.size", "vn.int", "vn.constant", "opaque"

INT_OPS: dict[str, Callable[..., int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
}


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
    CONSTANT: _spec("constant", CONSTANT, "a tensor used directly", _ConstantHandler),
}
# `opaque` is no namespaced op and can be in no file, so its declaration is not validated as one.
HANDLERS[OPAQUE] = _OpaqueHandler(
    LayerHandlerSpec.model_construct(name="opaque", op=OPAQUE, op_version=1, captures=(), options={})
)
