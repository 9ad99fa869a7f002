"""Float32 tensors to the smaller forms of the format and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from amc_venus_export._errors import VnModelError
from amc_venus_export._storage import Scheme, Storage, Stored

if TYPE_CHECKING:
    from amc_plugins.document import Document

__all__ = ["check_scales", "chosen", "decode", "encode", "rounded", "same_bits"]

_LEVELS = 127
_OUTPUTS_SECOND = {f"vn.conv_transpose{n}d" for n in (1, 2, 3)}
"""Ops whose weight has its output channels in dimension 1."""


def encode(tensor: Tensor, storage: Storage) -> Stored:
    """The bytes of a float32 tensor. int8: `scale = max |w| / 127` per channel, `q = round(w / scale)`, halves to even."""
    shape = tuple(tensor.shape)
    array = tensor.detach().cpu().contiguous().numpy()
    if storage.scheme == "float16":
        return Stored(storage, shape, array.astype("<f2").tobytes())
    others = tuple(axis for axis in range(array.ndim) if axis != storage.axis)
    scale = numpy.abs(array).max(axis=others, keepdims=True, initial=0.0).astype("<f4") / numpy.float32(_LEVELS)
    # A channel of zeros has scale 0; its quotient is 0 whatever it is divided by.
    quotient = array / numpy.where(scale == 0, numpy.float32(1), scale)
    values = numpy.clip(numpy.rint(quotient), -_LEVELS, _LEVELS).astype(numpy.int8).tobytes()
    return Stored(storage, shape, values.ljust(storage.scales_at(shape), b"\0") + scale.astype("<f4").tobytes())


def decode(stored: Stored) -> Tensor:
    """The float32 tensor that the network sees; a copy."""
    storage, shape = stored.storage, stored.shape
    count = int(numpy.prod(shape, dtype=numpy.int64))
    if storage.scheme == "float16":
        return torch.from_numpy(numpy.frombuffer(stored.data, "<f2", count).astype(numpy.float32).reshape(shape))
    values = numpy.frombuffer(stored.data, numpy.int8, count).reshape(shape)
    along = [1] * len(shape)
    along[storage.axis] = shape[storage.axis]
    scale = numpy.frombuffer(stored.data, "<f4", shape[storage.axis], storage.scales_at(shape)).reshape(along)
    return torch.from_numpy(values.astype(numpy.float32) * scale)


def check_scales(stored: Stored, name: str, where: str) -> None:
    """Look at what int8 storage has behind its values.

    Raises:
        VnModelError: bytes between values and scales are not zero, or a scale is negative or not finite.
    """
    if stored.storage.scheme != "int8":
        return
    count, start = int(numpy.prod(stored.shape, dtype=numpy.int64)), stored.storage.scales_at(stored.shape)
    if any(stored.data[count:start]):
        raise VnModelError("PADDING_NONZERO", f"bytes before the scales of tensor `{name}` are not zero", where)
    scales = numpy.frombuffer(stored.data, "<f4", offset=start)
    if not (numpy.isfinite(scales).all() and (scales >= 0).all()):
        raise VnModelError("QUANT_SCALE", f"a scale of tensor `{name}` is negative or not finite", where)


def chosen(document: Document, tensors: Mapping[str, Tensor], scheme: Scheme) -> dict[str, Storage]:
    """Which tensors are stored smaller, by name.

    Float32 tensors of two and more dimensions: all of them as float16; as int8 those in slots whose names start with `weight`,
    by output channel. What the form cannot hold stays as it is: values above 65504 as float16, infinities as int8, and int8
    that with its scales would be no smaller.
    """
    found: dict[str, Storage] = {}
    for node in document.nodes:
        for slot, name in node.tensors.items():
            tensor = tensors[name]
            if name in found or tensor.dtype != torch.float32 or tensor.dim() < 2:
                continue
            if scheme == "int8" and not slot.startswith("weight"):
                continue
            storage = Storage(scheme, 1 if scheme == "int8" and node.op in _OUTPUTS_SECOND else 0)
            if storage.nbytes(tuple(tensor.shape)) < 4 * tensor.numel() and _fits(tensor, scheme):
                found[name] = storage
    return found


def _fits(tensor: Tensor, scheme: Scheme) -> bool:
    finite = torch.isfinite(tensor)
    if scheme == "int8":
        return bool(finite.all())
    return bool((tensor[finite].abs() <= torch.finfo(torch.float16).max).all())


def rounded(tensors: Mapping[str, Tensor], storages: Mapping[str, Storage]) -> dict[str, Tensor]:
    """The tensors as a file with these storages gives them back."""
    return {name: decode(encode(one, storages[name])) if name in storages else one for name, one in tensors.items()}


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two float32 tensors are equal bit for bit, NaN included."""
    return one.shape == other.shape and torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))
