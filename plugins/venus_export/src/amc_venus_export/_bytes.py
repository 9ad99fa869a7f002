"""Tensors as little-endian bytes and back, without a copy where that is possible."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from amc_plugins.graph import TORCH_DTYPES
from amc_venus_export._errors import VnModelError

__all__ = ["TensorViews", "bytes_of", "check_byte_order", "tensor_in"]


def bytes_of(tensor: Tensor) -> memoryview:
    """The tensor's entries in row-major order; a view of its memory if it is contiguous and on the CPU."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def tensor_in(buffer: Any, offset: int, dtype: str, shape: list[int]) -> Tensor:
    """A tensor over a writable buffer, which it keeps alive. Empty tensors own nothing."""
    count = 1
    for dim in shape:
        count *= dim
    if not count:
        return torch.empty(shape, dtype=TORCH_DTYPES[dtype])
    flat = torch.frombuffer(buffer, dtype=TORCH_DTYPES[dtype], count=count, offset=offset)
    return flat if len(shape) == 1 else flat.view(shape)


class TensorViews(Mapping[str, Tensor]):
    """Tensors over a buffer by name, each made when it is first asked for and kept."""

    def __init__(self, buffer: Any, places: dict[str, tuple[int, str, list[int]]], made: dict[str, Tensor]) -> None:
        """`places`: offset, dtype and shape; `made`: tensors that are there already. Their names are in `places` too."""
        self._buffer, self._places, self._made = buffer, places, made

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._made:
            self._made[name] = tensor_in(self._buffer, *self._places[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def check_byte_order() -> None:
    """Raises `VnModelError` BYTE_ORDER on a big-endian machine, where the bytes of a file are not those of tensors."""
    if sys.byteorder != "little":
        raise VnModelError("BYTE_ORDER", "a .vnmodel is little-endian, which this machine is not")
