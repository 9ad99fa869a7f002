"""Ways to make one bad file of a sound one; `hostile` has the files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amc_venus_export._header import seal
from amc_venus_export.drafts import Draft, sample

__all__ = ["drop", "edit", "flip", "put", "raw", "sealed", "text"]


def put(*path: Any, to: Any) -> Callable[[], bytes]:
    """The sample with one field of its graph changed after the data was placed."""

    def make() -> bytes:
        draft = sample()
        data = draft.place()
        holder: Any = draft.root
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = to
        return draft.pack(data=data)

    return make


def drop(*path: Any) -> Callable[[], bytes]:
    """The sample without one field."""

    def make() -> bytes:
        draft = sample()
        data = draft.place()
        holder: Any = draft.root
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        return draft.pack(data=data)

    return make


def edit(change: Callable[[Draft], object]) -> Callable[[], bytes]:
    """The sample after a change, placed and packed again."""

    def make() -> bytes:
        draft = sample()
        change(draft)
        return draft.pack()

    return make


def text(change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """The sample with its graph changed as text; lengths and checksums are right."""

    def make() -> bytes:
        draft = sample()
        data = draft.place()
        return draft.pack(change(draft.graph()), data)

    return make


def raw(change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """The sample's bytes changed."""
    return lambda: change(sample().pack())


def sealed(at: int, value: bytes) -> Callable[[], bytes]:
    """The sample with header bytes changed and the header's checksum right."""
    return raw(lambda file: seal(file[:at] + value + file[at + len(value) : 64]) + file[64:])


def flip(at: Callable[[bytes], int]) -> Callable[[], bytes]:
    """The sample with one bit changed."""

    def change(file: bytes) -> bytes:
        i = at(file)
        return file[:i] + bytes([file[i] ^ 1]) + file[i + 1 :]

    return raw(change)
