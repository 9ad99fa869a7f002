"""The exporter `onnx`, and what an emitter of an op of one's own is given: `Op`, `Value`, `NotInOnnx`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_onnx_export._op import NotInOnnx, Op, Value

__version__ = "0.1.0"
__all__ = ["NotInOnnx", "Op", "Value"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from amc_onnx_export import _op

    return getattr(_op, name)
