"""The `.vnmodel` format: exporter, writer, reader and validator.

`.vnmodel` here is this project's own open format (docs/vnmodel.md). It keeps the name and the call of the original AMC; it is
not, and cannot be verified to be, readable by Huya's Venus engine, whose format was never published.

    from amc_venus_export import open_vnmodel
    model = open_vnmodel("model.vnmodel", generic=True)      # looks at any valid file, also one with ops that are not installed
    model.document, model.tensors, model.model_id, model.network()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_venus_export._errors import CODES, VnModelError
    from amc_venus_export._limits import Limits
    from amc_venus_export._model import VnModel
    from amc_venus_export._reader import open_vnmodel
    from amc_venus_export._writer import write_vnmodel

__all__ = ["CODES", "Limits", "VnModel", "VnModelError", "open_vnmodel", "write_vnmodel"]
__version__ = "0.1.0"

_HOME = {
    "CODES": "_errors",
    "Limits": "_limits",
    "VnModel": "_model",
    "VnModelError": "_errors",
    "open_vnmodel": "_reader",
    "write_vnmodel": "_writer",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
