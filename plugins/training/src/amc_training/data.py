"""Loaders of real data for examples, tests and small studies. Free of torch until one is called."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_training._data import ImageSet, digits, digits_set, idx_images, idx_set

__all__ = ["ImageSet", "digits", "digits_set", "idx_images", "idx_set"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("amc_training._data"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
