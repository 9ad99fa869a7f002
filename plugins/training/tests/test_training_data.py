from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from amc_training import TrainingError
from amc_training.data import digits, digits_set, idx_images, idx_set
from sklearn.datasets import load_digits

from amc_plugins.plugin import SettingsError


def test_digits_are_split_without_overlap_and_stratified() -> None:
    parts = {split: digits_set(split) for split in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert {split: len(part) for split, part in parts.items()} == {"train": 1197, "validation": 300, "test": 300}
    images = torch.cat([part.images for part in parts.values()])
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.float32
    assert images.min() == 0 and images.max() == 1
    together = sorted(map(tuple, images.flatten(1).mul(16).to(torch.int64).tolist()))
    assert together == sorted(map(tuple, load_digits().data.astype(int).tolist()))
    for part in parts.values():
        counts = torch.bincount(part.labels)
        assert len(counts) == 10 and (counts.max() - counts.min()) / len(part) < 0.02
    assert torch.equal(digits_set("test").images, parts["test"].images)


def test_digits_loaders_shuffle_by_their_own_seed() -> None:
    def labels(loader: Any) -> list[int]:
        return torch.cat([batch[1] for batch in loader]).tolist()

    loader = digits("train", batch_size=100, seed=4)
    first, second = labels(loader), labels(loader)
    assert first != second and sorted(first) == sorted(second)
    assert [labels(again) for again in [digits("train", batch_size=100, seed=4)] * 2] == [first, second]
    assert labels(digits("train", seed=5)) != first
    assert (
        labels(digits("validation", seed=1)) == labels(digits("validation", seed=2)) == digits_set("validation").labels.tolist()
    )
    images, batch_labels = next(iter(digits(batch_size=7)))
    assert images.shape == (7, 1, 8, 8) and batch_labels.shape == (7,) and batch_labels.dtype == torch.int64


def test_a_transform_sees_each_image() -> None:
    image, label = digits_set("test", transform=lambda image: image.expand(3, 8, 8) - 1)[5]
    plain = digits_set("test")
    assert torch.equal(image, plain.images[5].expand(3, 8, 8) - 1) and label == plain.labels[5]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The digits as idx files, one of them compressed: 1500 to train, 297 to test."""
    bunch = load_digits()
    images, labels = (bunch.images * 15).astype(np.uint8), bunch.target.astype(np.uint8)
    for stem, part in (("train", slice(1500)), ("t10k", slice(1500, None))):
        content = struct.pack(">BBBB3I", 0, 0, 8, 3, len(images[part]), 8, 8) + images[part].tobytes()
        (tmp_path / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(
            struct.pack(">BBBBI", 0, 0, 8, 1, len(labels[part])) + labels[part].tobytes()
        )
    return tmp_path


def test_idx_files(folder: Path) -> None:
    bunch = load_digits()
    test = idx_set(folder, "test")
    expected = torch.from_numpy(bunch.images[1500:]).mul(15).to(torch.uint8).float() / 255
    assert torch.equal(test.images[:, 0], expected) and test.labels.tolist() == bunch.target[1500:].tolist()
    train, validation = idx_set(folder, "train"), idx_set(folder, "validation")
    assert (len(train), len(validation)) == (1250, 250)
    assert sorted([*train.labels.tolist(), *validation.labels.tolist()]) == sorted(bunch.target[:1500].tolist())
    images, labels = next(iter(idx_images(folder, batch_size=16)))
    assert images.shape == (16, 1, 8, 8) and labels.shape == (16,)


def test_idx_files_that_are_wrong_are_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="'valid', not one of train, validation, test"):
        idx_images(folder, "valid")  # type: ignore[arg-type]
    labels = folder / "t10k-labels-idx1-ubyte"
    content = labels.read_bytes()
    for damaged, message in (
        (content[:-1], "has 296 bytes of data, and its header says 297"),
        (b"\0\0\x0d\1" + content[4:], "not an idx file of 1-dimensional bytes: it begins with 00 00 0d 01"),
        (b"", "not an idx file"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 3) + b"\1\2\3", "has 297 images and 3 labels for t10k"),
    ):
        labels.write_bytes(damaged)
        with pytest.raises(TrainingError, match=message):
            idx_set(folder, "test")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(TrainingError, match="is damaged"):
        idx_set(folder, "train")
    labels.unlink()
    with pytest.raises(SettingsError, match="there is no `t10k-labels-idx1-ubyte`"):
        idx_set(folder, "test")
