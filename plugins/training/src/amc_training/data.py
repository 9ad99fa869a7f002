"""Loaders of images: digits that ship in scikit-learn, idx files, NumPy archives, folders. Free of torch until one is called.

Each is a factory for the command line too:
`--train amc_training.data:image_folder --data-set folder=pictures --data-set size=64`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amc_training._data import ImageSet, digits, digits_set, idx_images, idx_set
    from amc_training._image_files import archive, archive_set, image_folder, image_folder_set

__all__ = [
    "ImageSet",
    "archive",
    "archive_set",
    "digits",
    "digits_set",
    "idx_images",
    "idx_set",
    "image_folder",
    "image_folder_set",
]

_FILES = {"archive", "archive_set", "image_folder", "image_folder_set"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "amc_training._image_files" if name in _FILES else "amc_training._data"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
