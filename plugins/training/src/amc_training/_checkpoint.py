"""Checkpoints on disk: one dict of tensors and plain data, written whole or not at all, read with `weights_only=True`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from amc_plugins.exporting import atomic_write
from amc_training._errors import CheckpointError

__all__ = ["BEST", "FORMAT", "LAST", "read", "write"]

FORMAT = 1
LAST = "last.pt"
"""Everything that a training needs to go on."""
BEST = "best.pt"
"""The network's state of the best epoch alone, for use elsewhere."""


def write(path: Path, content: dict[str, Any], *, check: bool = False) -> None:
    """Write `content` to `path` atomically: a reader sees the old file or the new one, also after a crash.

    Raises:
        CheckpointError: with `check`, if it could not be read back; nothing is written then.
    """
    with atomic_write(path, durable=True) as temporary:
        torch.save(content, temporary)
        if check:
            read(temporary)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Nothing in the file is executed.

    Raises:
        CheckpointError: the file is missing, damaged, holds arbitrary objects, or has another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at `{path}`") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"`{path}` cannot be read as a checkpoint: {first}",
            hint="a checkpoint holds tensors, numbers, strings and containers of them; delete the file to start afresh",
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        given = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"`{path}` is not a training checkpoint of format {FORMAT}: it has {given!r}")
    return content
