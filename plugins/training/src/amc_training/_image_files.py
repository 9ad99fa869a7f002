"""Images in folders, one per class, and in NumPy archives."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amc_plugins.plugin import SettingsError
from amc_training._augment import Augment
from amc_training._data import ImageSet, Split, check_split, loader_of
from amc_training._errors import TrainingError

__all__ = ["FolderSet", "archive", "archive_set", "image_folder", "image_folder_set"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


class FolderSet(Dataset[tuple[Tensor, int]]):
    """Images (C, size, size), float32, read when they are asked for: the shorter side resized to `size`, the middle cut out.

    `classes` are the names of the folders in alphabetical order; a label is the place of its class among them.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, int]],
        classes: Sequence[str],
        size: int,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.files, self.classes, self.size = list(files), list(classes), size
        self._mode = {1: "L", 3: "RGB"}[channels]
        self._mean, self._std = (torch.tensor(list(values)).reshape(-1, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        try:
            with Image.open(path) as opened:
                image = opened.convert(self._mode)
        except (UnidentifiedImageError, OSError) as error:
            raise TrainingError(f"`{path}` cannot be read as an image: {error}") from error
        scale = self.size / min(image.size)
        width, height = (max(self.size, round(side * scale)) for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + self.size, top + self.size))
        pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0)
        pixels = pixels.unsqueeze(0) if pixels.dim() == 2 else pixels.permute(2, 0, 1)
        return ((pixels - self._mean) / self._std).contiguous(), label


def image_folder_set(
    folder: str | Path,
    split: Split = "train",
    size: int = 224,
    channels: int = 3,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> FolderSet:
    """The images of a folder with one folder per class, in `<folder>/<split>/<class>/` or, without folders for splits, in
    `<folder>/<class>/` with fixed stratified splits: a sixth for validation, a sixth for the test.

    Args:
        mean, std: of the channels, subtracted and divided by; one number for all or one for each.

    Raises:
        SettingsError: an unknown split or number of channels, or the folder or its images are missing.
        TrainingError: a class has no image, or too few to be split.
    """
    check_split(split)
    if channels not in (1, 3):
        raise SettingsError(f"`channels` is {channels}, not 1 (grey) or 3 (colour)")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise SettingsError(f"`{name}` has {len(values)} numbers for {channels} channels: give one, or one for each")
    root = Path(folder)
    if not root.is_dir():
        raise SettingsError(f"there is no folder `{root}`", hint="give the folder that holds one folder of images per class")
    split_by_hand = (root / "train").is_dir()
    place = root / split if split_by_hand else root
    if not place.is_dir():
        raise SettingsError(f"there is no folder `{place}`", hint=f"`{root}` has a folder `train`, so it needs `{split}` too")
    classes = sorted(one.name for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))
    files = [(path, label) for label, name in enumerate(classes) for path in _images(place / name)]
    if not classes:
        raise SettingsError(f"`{place}` has no folders", hint="put the images of each class into a folder of its name")
    if empty := [name for label, name in enumerate(classes) if all(label != one for _, one in files)]:
        raise TrainingError(f"there are no images in {', '.join(str(place / name) for name in empty[:5])}")
    if not split_by_hand:
        files = [files[index] for index in _part([label for _, label in files], split, str(place))]
    return FolderSet(files, classes, size, channels, mean, std)


def image_folder(
    folder: str | Path,
    split: Split = "train",
    size: int = 224,
    channels: int = 3,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    batch_size: int = 64,
    seed: int = 0,
    augment: Augment = "none",
    workers: int = 0,
) -> DataLoader[tuple[Any, int]]:
    """Batches of `image_folder_set`: images (N, C, size, size) and labels (N,), shuffled and augmented as those of `digits`."""
    images = image_folder_set(folder, split, size, channels, mean, std)
    return loader_of(images, split, batch_size, seed, augment, workers)


def archive_set(file: str | Path, split: Split = "train", images: str = "images", labels: str = "labels") -> ImageSet:
    """The images of a NumPy archive (.npz): arrays (N, H, W) or (N, C, H, W), bytes (divided by 255) or floats, and labels
    (N,).

    With arrays `train_images`, `train_labels`, `test_images`, ... the splits are those; else fixed stratified sixths of
    `images` and `labels` are for validation and test.

    Raises:
        SettingsError: the file or an array is missing.
        TrainingError: the file is no archive, or an array has another shape or type.
    """
    check_split(split)
    path = Path(file)
    if not path.is_file():
        raise SettingsError(f"there is no file `{path}`", hint="numpy.savez(file, images=..., labels=...) writes one")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError) as error:
        raise TrainingError(f"`{path}` cannot be read as a NumPy archive of plain arrays: {error}") from error
    given = f"train_{images}" in arrays
    x_name, y_name = (f"{split}_{images}", f"{split}_{labels}") if given else (images, labels)
    for name in (x_name, y_name):
        if name not in arrays:
            raise SettingsError(f"`{path}` has no array `{name}`; it has {', '.join(sorted(arrays)) or 'none'}")
    x, y = arrays[x_name], arrays[y_name]
    if x.ndim not in (3, 4) or y.ndim != 1 or len(x) != len(y) or not len(x):
        raise TrainingError(
            f"`{path}`: `{x_name}` has shape {x.shape} and `{y_name}` {y.shape}; expected are (N, [C,] H, W) and (N,)"
        )
    if not (x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating)) or not np.issubdtype(y.dtype, np.integer):
        raise TrainingError(
            f"`{path}`: `{x_name}` is {x.dtype} and `{y_name}` {y.dtype}; expected are bytes or floats, and integers"
        )
    if not given:
        chosen = _part(y.tolist(), split, str(path))
        x, y = x[chosen], y[chosen]
    pixels = torch.from_numpy(x.astype(np.float32) / (255.0 if x.dtype == np.uint8 else 1.0))
    return ImageSet(pixels if pixels.dim() == 4 else pixels.unsqueeze(1), torch.from_numpy(y.astype(np.int64)))


def archive(
    file: str | Path,
    split: Split = "train",
    images: str = "images",
    labels: str = "labels",
    batch_size: int = 64,
    seed: int = 0,
    augment: Augment = "none",
) -> DataLoader[tuple[Any, int]]:
    """Batches of `archive_set`, shuffled and augmented as those of `digits`."""
    return loader_of(archive_set(file, split, images, labels), split, batch_size, seed, augment)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())


def _part(labels: Sequence[int], split: Split, where: str) -> list[int]:
    """The places of a split, always the same: stratified sixths for validation and test."""
    everything = np.arange(len(labels))
    kinds = np.asarray(labels)
    try:
        rest, test = train_test_split(everything, test_size=1 / 6, random_state=0, stratify=kinds)
        train, validation = train_test_split(rest, test_size=1 / 5, random_state=0, stratify=kinds[rest])
    except ValueError as error:
        raise TrainingError(
            f"`{where}` cannot be split into training, validation and test: {error}",
            hint="give every class at least three samples, or make the splits by hand",
        ) from error
    chosen = {"train": train, "validation": validation, "test": test}[split]
    return [int(place) for place in np.sort(chosen)]
