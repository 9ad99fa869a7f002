"""The digits images that ship in scikit-learn, as factories for a recipe: 8 x 8 pixels, ten classes, three fixed parts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from amc_plugins.core.errors import AmcError

__all__ = ["calibration", "images", "shifted", "test", "train", "validation"]

HELD_OUT = 300
"""Images to validate on, and as many to test on; 1197 are left to train."""

Loader = DataLoader[tuple[Tensor, ...]]


def train(batch_size: int = 64, seed: int = 0) -> Loader:
    """Batches of images (N, 1, 8, 8) in [0, 1] and labels (N,), in a new order every epoch."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(*images("train")), batch_size, shuffle=True, generator=generator)


def calibration(batch_size: int = 256, seed: int = 0) -> list[Tensor]:
    """Batches of images without labels: those to train on, each three times, shifted at random."""
    generator = torch.Generator().manual_seed(seed)
    pixels, _ = images("train")
    return [shifted(part, generator) for part in pixels.repeat(3, 1, 1, 1).split(batch_size)]


def shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """The images (N, C, H, W), moved together by up to one pixel in each direction."""
    top, left = torch.randint(0, 3, (2,), generator=generator).tolist()
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (1, 1, 1, 1))[..., top : top + height, left : left + width]


def validation(batch_size: int = 300) -> Loader:
    """What epochs are chosen by."""
    return DataLoader(TensorDataset(*images("validation")), batch_size)


def test(batch_size: int = 300) -> Loader:
    """What nothing is chosen by."""
    return DataLoader(TensorDataset(*images("test")), batch_size)


def images(part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8), float32, and labels (N,), int64, of `train`, `validation` or `test`: a fixed, stratified split.

    From the UCI optical recognition of handwritten digits (Alpaydin and Kaynak 1998).

    Raises:
        AmcError: scikit-learn is not installed.
    """
    digits, split = _sklearn()
    bunch = digits()
    pixels = torch.from_numpy(bunch.images).float().div(16.0).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    rest, tested = split(range(len(labels)), test_size=HELD_OUT, random_state=0, stratify=bunch.target)
    trained, validated = split(rest, test_size=HELD_OUT, random_state=0, stratify=bunch.target[rest])
    chosen = sorted({"train": trained, "validation": validated, "test": tested}[part])
    return pixels[chosen], labels[chosen]


def _sklearn() -> tuple[Any, Any]:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise AmcError(
            "the images of the demo ship in scikit-learn, which is not installed", hint="pip install scikit-learn"
        ) from error
    return load_digits, train_test_split
