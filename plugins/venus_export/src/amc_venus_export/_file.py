"""Writing a large file from pieces that lie in memory, without joining them first."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["write_pieces"]

_BATCH = 4 << 20
"""Bytes after which the disk is told to begin, where it can be told."""
_MOST = 1024
"""Pieces that one call takes at most: IOV_MAX of Linux and macOS."""


def write_pieces(path: Path, size: int, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file of a known size. Empty pieces are not allowed.

    The disk begins with the first pieces while the next are copied, so that an `fsync` afterwards has little left to wait for.
    """
    with path.open("wb", buffering=0) as file:
        handle = file.fileno()
        _reserve(handle, size)
        at = 0
        for batch in _batches(pieces):
            count = _write(handle, batch)
            if hasattr(os, "posix_fadvise"):  # not on macOS and Windows
                # Linux starts to write what is dirty in the range, and keeps it cached until that has ended.
                with suppress(OSError):  # it is a hint, and file systems need not take it
                    os.posix_fadvise(handle, at, count, os.POSIX_FADV_DONTNEED)
            at += count


def _batches(pieces: Iterable[bytes | memoryview]) -> Iterator[list[memoryview]]:
    batch: list[memoryview] = []
    count = 0
    for piece in pieces:
        batch.append(memoryview(piece))
        count += len(piece)
        if count >= _BATCH or len(batch) == _MOST:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def _write(handle: int, batch: list[memoryview]) -> int:
    """Write all of it; a call may take less than it is given. Returns the bytes."""
    total = 0
    first = 0
    while first < len(batch):
        count = os.writev(handle, batch[first:]) if hasattr(os, "writev") else os.write(handle, batch[first])  # Windows
        total += count
        while count:
            taken = min(count, len(batch[first]))
            count -= taken
            batch[first] = batch[first][taken:]
            first += not batch[first]
    return total


def _reserve(handle: int, size: int) -> None:
    """Have the file laid out at once where the file system can: a full disk is known first, and writing is faster."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):  # this file system cannot
            raise
