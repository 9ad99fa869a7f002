"""For files that are not there: which one beside it was probably meant."""

from __future__ import annotations

from pathlib import Path

from amc_plugins.core.errors import nearest

__all__ = ["nearest_file"]


def nearest_file(path: Path) -> str:
    """`"; did you mean `model.py`?"` for the names in the folder of `path` that are close to its own, or an empty string."""
    try:
        names = sorted(one.name for one in path.parent.iterdir() if one.is_file() and not one.name.startswith("."))
    except OSError:  # no such folder, or none of ours: there is nothing to suggest
        return ""
    alike = [name for name in names if Path(name).suffix == path.suffix] or names
    return nearest(path.name, alike)
