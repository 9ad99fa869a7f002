"""Writing a large file from pieces that lie in memory, without joining them first."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

__all__ = ["write_pieces"]

_MOST = 1024
"""Pieces that one call takes at most: IOV_MAX of Linux and macOS."""


def write_pieces(
    path: Path, size: int, pieces: Iterable[bytes | memoryview], copying: Callable[[], None] = lambda: None
) -> None:
    """Write a file of a known size. Empty pieces are not allowed. `copying` is called before each batch is handed over."""
    with path.open("wb", buffering=0) as file:
        handle = file.fileno()
        _reserve(handle, size)
        for batch in _batches(pieces):
            copying()
            _write(handle, batch)


def _batches(pieces: Iterable[bytes | memoryview]) -> Iterator[list[memoryview]]:
    source = iter(pieces)
    while batch := [memoryview(piece) for piece in islice(source, _MOST)]:
        yield batch


def _write(handle: int, batch: list[memoryview]) -> None:
    """Write all of it; a call may take less than it is given."""
    first = 0
    while first < len(batch):
        count = os.writev(handle, batch[first:]) if hasattr(os, "writev") else os.write(handle, batch[first])  # Windows
        while count:
            taken = min(count, len(batch[first]))
            count -= taken
            batch[first] = batch[first][taken:]
            first += not batch[first]


def _reserve(handle: int, size: int) -> None:
    """Have the file laid out at once where the file system can: a full disk is known first, and writing is faster."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):  # this file system cannot
            raise
