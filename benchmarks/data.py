"""Fashion-MNIST from Debian's package `dataset-fashion-mnist`, as tensors.

Images are read as bytes and normalised when a batch is taken. The last 5,000 of the 60,000 training images are the validation
set: no network here is trained or calibrated on them. The test set is used for figures only, never for a choice.
"""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["CALIBRATION_IMAGES", "MissingDataError", "Split", "calibration", "folder", "load"]

CALIBRATION_IMAGES = 4096
_VALIDATION_IMAGES = 5000
_MEAN, _STD = 0.2860, 0.3530
_FILES = {"train": "train", "validation": "train", "test": "t10k"}


class MissingDataError(RuntimeError):
    """The data set is not installed, or its files are damaged."""


@dataclass(frozen=True)
class Split:
    images: Tensor
    """(N, 1, 28, 28), uint8."""
    labels: Tensor
    """(N,), int64."""

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, chosen: Tensor | slice = slice(None)) -> Tensor:
        """Normalised images, float32."""
        return normalised(self.images[chosen])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield self.inputs(part), self.labels[part]


def normalised(images: Tensor) -> Tensor:
    return (images.float() / 255.0 - _MEAN) / _STD


def folder() -> Path:
    """Where the files are: `$FASHION_MNIST`, or where Debian's package puts them."""
    return Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


def load(part: str) -> Split:
    """`train` (55,000 images), `validation` (5,000) or `test` (10,000).

    Raises:
        MissingDataError: with the command that installs the data.
    """
    stem = _FILES[part]
    images = _read(f"{stem}-images-idx3-ubyte", dimensions=3)
    labels = _read(f"{stem}-labels-idx1-ubyte", dimensions=1)
    if len(images) != len(labels):
        raise MissingDataError(f"{folder()}: {len(images)} images and {len(labels)} labels")
    cut = {
        "train": slice(0, len(images) - _VALIDATION_IMAGES),
        "validation": slice(len(images) - _VALIDATION_IMAGES, None),
        "test": slice(None),
    }[part]
    return Split(images[cut].unsqueeze(1).clone(), labels[cut].long())


def calibration(count: int = CALIBRATION_IMAGES, *, seed: int = 0) -> Tensor:
    """Unlabelled training images, normalised, (count, 1, 28, 28)."""
    train = load("train")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:count]
    return train.inputs(chosen)


def _read(name: str, dimensions: int) -> Tensor:
    """One file of the IDX format: two zero bytes, the type (8: uint8), the number of dimensions, the sizes, the values."""
    for path in (folder() / f"{name}.gz", folder() / name):
        if path.is_file():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            break
    else:
        raise MissingDataError(
            f"Fashion-MNIST is not installed: there is no `{name}.gz` in {folder()}\n"
            "hint: apt-get install dataset-fashion-mnist (Debian, Ubuntu), or set FASHION_MNIST to a folder with its IDX files"
        )
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, 8, dimensions)):
        raise MissingDataError(f"{path} is not an IDX file of {dimensions} dimensions of bytes")
    sizes = struct.unpack(f">{dimensions}I", content[4:head])
    values = torch.frombuffer(bytearray(content[head:]), dtype=torch.uint8)
    expected = 1
    for size in sizes:
        expected *= size
    if len(values) != expected:
        raise MissingDataError(f"{path} is cut short: {len(values)} of {expected} values")
    return values.reshape(sizes)
