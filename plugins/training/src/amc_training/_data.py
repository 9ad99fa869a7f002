"""Image sets with fixed splits: the digits that ship in scikit-learn, and idx files as (Fashion-)MNIST is distributed."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amc_plugins.plugin import SettingsError
from amc_training._augment import Augment, collate
from amc_training._errors import TrainingError

__all__ = ["ImageSet", "check_split", "digits", "digits_set", "idx_images", "idx_set", "loader_of", "read_idx"]

Split = Literal["train", "validation", "test"]
_SPLITS = ("train", "validation", "test")
_IDX_FILES = {"train": "train", "validation": "train", "test": "t10k"}
_IDX_BYTE = 0x08  # the element type of the format: unsigned byte


class ImageSet(Dataset[tuple[Any, int]]):
    """Images (N, C, H, W), float32 in [0, 1], and labels (N,), int64. `transform` is called with each image (C, H, W)."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Tensor], Any] | None = None) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])


def digits_set(split: Split = "train", transform: Callable[[Tensor], Any] | None = None) -> ImageSet:
    """The 8 x 8 digits of scikit-learn, (N, 1, 8, 8): 1197 for training, 300 for validation, 300 for the test.

    The split is stratified and fixed. From the UCI optical recognition of handwritten digits (Alpaydin and Kaynak 1998,
    test part).
    """
    check_split(split)
    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.float32) / 16.0).unsqueeze(1)  # (1797, 1, 8, 8)
    labels = torch.from_numpy(bunch.target.astype(np.int64))  # (1797,)
    rest, test = train_test_split(np.arange(len(labels)), test_size=300, random_state=0, stratify=bunch.target)
    train, validation = train_test_split(rest, test_size=300, random_state=0, stratify=bunch.target[rest])
    chosen = np.sort({"train": train, "validation": validation, "test": test}[split])
    return ImageSet(images[chosen], labels[chosen], transform)


def digits(
    split: Split = "train", batch_size: int = 64, seed: int = 0, augment: Augment = "none"
) -> DataLoader[tuple[Any, int]]:
    """Batches of `digits_set(split)`: images (N, 1, 8, 8) in [0, 1] and labels (N,). The training part is shuffled anew
    every epoch, and augmented if `augment` says so.

    The order comes from a generator of the loader, started from `seed`.
    """
    return loader_of(digits_set(split), split, batch_size, seed, augment)


def idx_set(folder: str | Path, split: Split = "train", transform: Callable[[Tensor], Any] | None = None) -> ImageSet:
    """A folder of idx files as MNIST and Fashion-MNIST are distributed (`train-images-idx3-ubyte`, also with `.gz`, ...).

    `test` are the `t10k` files; `validation` is a fixed stratified sixth of the training files, and `train` the rest.

    Raises:
        SettingsError: an unknown split, or a file is missing.
        TrainingError: a file is not what its name says, or images and labels differ in number.
    """
    check_split(split)
    stem = _IDX_FILES[split]
    images = read_idx(_find(Path(folder), f"{stem}-images-idx3-ubyte"), 3)
    labels = read_idx(_find(Path(folder), f"{stem}-labels-idx1-ubyte"), 1)
    if len(images) != len(labels):
        raise TrainingError(f"`{folder}` has {len(images)} images and {len(labels)} labels for {stem}")
    if split != "test":
        parts = train_test_split(np.arange(len(labels)), test_size=1 / 6, random_state=0, stratify=labels)
        chosen = np.sort(parts[split == "validation"])
        images, labels = images[chosen], labels[chosen]
    scaled = torch.from_numpy(images.astype(np.float32) / 255.0).unsqueeze(1)  # (N, 1, H, W)
    return ImageSet(scaled, torch.from_numpy(labels.astype(np.int64)), transform)


def idx_images(
    folder: str | Path, split: Split = "train", batch_size: int = 128, seed: int = 0, augment: Augment = "none"
) -> DataLoader[tuple[Any, int]]:
    """Batches of `idx_set(folder, split)`, shuffled and augmented like those of `digits`."""
    return loader_of(idx_set(folder, split), split, batch_size, seed, augment)


def read_idx(path: Path, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One idx file of unsigned bytes: two zero bytes, the element type, the number of dimensions, their sizes (big endian),
    the data.

    Raises:
        TrainingError: the file has another type or shape, or is cut short.
    """
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    try:
        with opened as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError) as error:
        raise TrainingError(f"`{path}` is damaged: {error}") from error
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, _IDX_BYTE, dimensions)):
        raise TrainingError(
            f"`{path}` is not an idx file of {dimensions}-dimensional bytes: it begins with {content[:4].hex(' ')}"
        )
    shape = [int(size) for size in np.frombuffer(content, ">u4", dimensions, 4)]
    if len(content) != start + math.prod(shape):
        raise TrainingError(f"`{path}` has {len(content) - start} bytes of data, and its header says {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise SettingsError(
        f"there is no `{name}` or `{name}.gz` in `{folder}`", hint="give the folder with the files as they are distributed"
    )


def check_split(split: str) -> None:
    """Refuse an unknown split."""
    if split not in _SPLITS:
        raise SettingsError(f"`split` is {split!r}, not one of {', '.join(_SPLITS)}")


def loader_of(
    images: Dataset[tuple[Any, int]], split: Split, batch_size: int, seed: int, augment: str, workers: int = 0
) -> DataLoader[tuple[Any, int]]:
    """A loader over a split: the training part shuffled, by a generator of its own, and augmented; the others as they are."""
    generator = torch.Generator().manual_seed(seed)
    size = images[0][0].shape[-2:]
    function = collate(augment, (size[0], size[1]))
    train = split == "train"
    return DataLoader(
        images,
        batch_size=batch_size,
        shuffle=train,
        generator=generator,
        num_workers=workers,
        collate_fn=function if train else None,
    )
