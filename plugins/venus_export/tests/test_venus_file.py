"""A file from pieces: whole whatever one call takes, and on its way to the disk before the last piece is written."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from amc_venus_export import _file
from amc_venus_export._file import write_pieces


def pieces(count: int, most: int = 40) -> list[bytes | memoryview]:
    source = random.Random(0)
    made = [source.randbytes(source.randint(1, most)) for _ in range(count)]
    return [memoryview(one) if place % 2 else one for place, one in enumerate(made)]


def written(path: Path, given: Sequence[bytes | memoryview]) -> bool:
    write_pieces(path, sum(map(len, given)), given)
    return path.read_bytes() == b"".join(given)


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 5000])
def test_pieces_of_any_number_are_joined(tmp_path: Path, count: int) -> None:
    assert written(tmp_path / "a", pieces(count))


@pytest.mark.skipif(not hasattr(os, "writev"), reason="this system writes one piece at a time")
@pytest.mark.parametrize("most", [1, 7, 64])
def test_a_call_may_take_less_than_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    def writev(handle: int, batch: Sequence[memoryview]) -> int:
        return os.write(handle, b"".join(batch)[:most])

    monkeypatch.setattr(os, "writev", writev)
    assert written(tmp_path / "a", pieces(300))


def test_systems_without_the_calls_of_linux_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("writev", "posix_fadvise", "posix_fallocate"):
        monkeypatch.delattr(os, name, raising=False)
    assert written(tmp_path / "a", pieces(300))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be told")
def test_the_disk_begins_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int, int]] = []  # where, how much, and how much of the file was there by then
    genuine = os.posix_fadvise

    def advise(handle: int, at: int, count: int, advice: int) -> None:
        told.append((at, count, os.lseek(handle, 0, os.SEEK_CUR)))
        genuine(handle, at, count, advice)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(_file, "_BATCH", 1000)
    given: list[Any] = pieces(500)
    assert written(tmp_path / "a", given)
    assert len(told) > 5 and all(at + count == there for at, count, there in told)
    ends = [0, *(there for _, _, there in told)]
    assert [at for at, _, _ in told] == ends[:-1] and ends[-1] == sum(map(len, given))
    assert all(count < 1000 + 40 for _, count, _ in told)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system cannot be told")
def test_a_file_system_need_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(handle: int, at: int, count: int, advice: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fadvise", deaf)
    assert written(tmp_path / "a", pieces(300))
