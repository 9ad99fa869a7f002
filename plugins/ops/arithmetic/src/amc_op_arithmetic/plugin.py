"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

# name: handler class, module class, summary, `torch` names, tensor methods
_HANDLERS: dict[str, tuple[str, str, str, str, str]] = {
    "add": ("AddHandler", "ElemAdd", "x + alpha * y", "add", "add add_ __add__ __radd__ __iadd__"),
    "sub": (
        "SubHandler",
        "ElemSub",
        "x - alpha * y",
        "sub subtract rsub",
        "sub sub_ subtract subtract_ __sub__ __rsub__ __isub__",
    ),
    "mul": (
        "MulHandler",
        "ElemMul",
        "x * y",
        "mul multiply",
        "mul mul_ multiply multiply_ __mul__ __rmul__ __imul__",
    ),
    "div": (
        "DivHandler",
        "ElemDiv",
        "x / y",
        "div divide true_divide",
        "div div_ divide divide_ true_divide true_divide_ __div__ __rdiv__ __idiv__ __truediv__ __rtruediv__ __itruediv__",
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (handler, module, summary, functions, methods) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 0),
            target=f"amc_op_arithmetic._handlers:{handler}",
            captures=(
                f"amc_op_arithmetic.{module}",
                *(f"torch.{function}" for function in functions.split()),
                *(f"torch.Tensor.{method}" for method in methods.split()),
            ),
        )
