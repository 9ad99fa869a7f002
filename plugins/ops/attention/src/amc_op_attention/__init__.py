"""Layer handlers: products of matrices and attention. The module classes are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_op_attention._modules import AddMatrixProduct, Attention, Einsum, MatrixProduct
    from amc_op_attention._multihead import MultiheadAttention

__version__ = "0.1.0"
__all__ = ["AddMatrixProduct", "Attention", "Einsum", "MatrixProduct", "MultiheadAttention"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amc_op_attention import _modules, _multihead

    return getattr(_multihead if name == "MultiheadAttention" else _modules, name)
