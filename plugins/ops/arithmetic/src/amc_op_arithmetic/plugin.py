"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

# name: handler class, module class, summary, `torch` names, tensor methods
_HANDLERS: dict[str, tuple[str, str, str, str, str]] = {
    "add": ("_handlers:AddHandler", "ElemAdd", "x + alpha * y", "add", "add add_ __add__ __radd__ __iadd__"),
    "sub": (
        "_handlers:SubHandler",
        "ElemSub",
        "x - alpha * y",
        "sub subtract rsub",
        "sub sub_ subtract subtract_ __sub__ __rsub__ __isub__",
    ),
    "mul": (
        "_handlers:MulHandler",
        "ElemMul",
        "x * y",
        "mul multiply",
        "mul mul_ multiply multiply_ __mul__ __rmul__ __imul__",
    ),
    "div": (
        "_handlers:DivHandler",
        "ElemDiv",
        "x / y",
        "div divide true_divide",
        "div div_ divide divide_ true_divide true_divide_ __div__ __rdiv__ __idiv__ __truediv__ __rtruediv__ __itruediv__",
    ),
    "pow": ("_handlers:PowHandler", "ElemPow", "x ** y", "pow", "pow pow_ __pow__ __rpow__ __ipow__"),
    "floor_divide": (
        "_handlers:FloorDivHandler",
        "ElemFloorDiv",
        "x // y",
        "floor_divide",
        "floor_divide floor_divide_ __floordiv__ __rfloordiv__ __ifloordiv__",
    ),
    "remainder": (
        "_handlers:RemainderHandler",
        "ElemRemainder",
        "x % y",
        "remainder",
        "remainder remainder_ __mod__ __rmod__ __imod__",
    ),
    "maximum": ("_handlers:MaximumHandler", "ElemMaximum", "the larger entry of two tensors", "maximum", "maximum"),
    "minimum": ("_handlers:MinimumHandler", "ElemMinimum", "the smaller entry of two tensors", "minimum", "minimum"),
    "where": ("_choices:WhereHandler", "Where", "one of two operands, entry by entry", "where", "where"),
    "masked_fill": (
        "_choices:MaskedFillHandler",
        "MaskedFill",
        "a number where a mask is true",
        "masked_fill",
        "masked_fill masked_fill_",
    ),
    "clamp": (
        "_choices:ClampHandler",
        "Clamp",
        "x cut to [min, max]",
        "clamp clip clamp_min clamp_max",
        "clamp clamp_ clip clip_ clamp_min clamp_min_ clamp_max clamp_max_",
    ),
    "addcmul": ("_choices:AddProductHandler", "AddProduct", "x + value * y * z", "addcmul", "addcmul addcmul_"),
    "cast": (
        "_cast:CastHandler",
        "Cast",
        "another type",
        "",
        "to type type_as float double half bfloat16 char byte short int long bool",
    ),
}

# name: summary, spellings beside the name itself
_COMPARE: dict[str, tuple[str, str]] = {
    "eq": ("x == y", "__eq__"),
    "ne": ("x != y", "not_equal __ne__"),
    "lt": ("x < y", "less __lt__"),
    "le": ("x <= y", "less_equal __le__"),
    "gt": ("x > y", "greater __gt__"),
    "ge": ("x >= y", "greater_equal __ge__"),
    "logical_and": ("whether both are true", "bitwise_and __and__ __rand__"),
    "logical_or": ("whether one is true", "bitwise_or __or__ __ror__"),
    "logical_xor": ("whether exactly one is true", "bitwise_xor __xor__ __rxor__"),
}
_UNARY: dict[str, tuple[str, str]] = {
    "exp": ("e ** x", "exp_"),
    "expm1": ("e ** x - 1", "expm1_"),
    "log": ("natural logarithm", "log_"),
    "log1p": ("logarithm of 1 + x", "log1p_"),
    "log2": ("logarithm to base 2", "log2_"),
    "sqrt": ("square root", "sqrt_"),
    "rsqrt": ("1 / square root", "rsqrt_"),
    "square": ("x * x", "square_"),
    "reciprocal": ("1 / x", "reciprocal_"),
    "neg": ("-x", "neg_ negative negative_ __neg__"),
    "abs": ("|x|", "abs_ absolute absolute_ __abs__"),
    "sign": ("-1, 0 or 1", "sign_"),
    "sin": ("sine", "sin_"),
    "cos": ("cosine", "cos_"),
    "erf": ("error function", "erf_"),
    "floor": ("rounded down", "floor_"),
    "ceil": ("rounded up", "ceil_"),
    "round": ("rounded to the nearest integer", "round_"),
    "logical_not": ("whether it is false", "bitwise_not __invert__"),
}


_METHODS_ONLY = ("absolute_", "sign_")
"""Spellings that torch has as methods of tensors and not as functions."""


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, module, summary, functions, methods) in _HANDLERS.items():
        yield _spec(name, target, summary, module, functions.split(), methods.split())
    for name, (summary, more) in _COMPARE.items():
        yield _spec(name, "_handlers:CompareHandler", summary, "", [name, *more.split()], [name, *more.split()])
    for name, (summary, more) in _UNARY.items():
        target = "_unary:LogicalNotHandler" if name == "logical_not" else "_unary:UnaryHandler"
        yield _spec(name, target, summary, "", [name, *more.split()], [name, *more.split()])


def _spec(name: str, target: str, summary: str, module: str, functions: list[str], methods: list[str]) -> LayerHandlerSpec:
    return LayerHandlerSpec(
        name=name,
        op=f"vn.{name}",
        summary=summary,
        api=(1, 1),
        examples="amc_op_arithmetic._examples:examples",
        target=f"amc_op_arithmetic.{target}",
        captures=(
            *([f"amc_op_arithmetic.{module}"] if module else []),
            *(f"torch.{one}" for one in functions if not one.startswith("__") and one not in _METHODS_ONLY),
            *(f"torch.Tensor.{method}" for method in methods),
        ),
    )
