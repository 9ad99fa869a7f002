"""A file from pieces: whole whatever one call takes."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
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
    for name in ("writev", "posix_fallocate"):
        monkeypatch.delattr(os, name, raising=False)
    assert written(tmp_path / "a", pieces(300))


def test_who_waits_for_the_copying_hears_of_every_batch(tmp_path: Path) -> None:
    path, given = tmp_path / "a", pieces(1025)
    begun: list[bool] = []
    write_pieces(path, sum(map(len, given)), given, lambda: begun.append(path.is_file()))
    assert begun == [True, True], "1024 pieces, then the last"
    write_pieces(tmp_path / "b", 0, [], lambda: begun.append(False))
    assert len(begun) == 2 and (tmp_path / "b").read_bytes() == b""
