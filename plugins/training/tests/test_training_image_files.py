"""Images in folders and NumPy archives, and augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from amc_training import TrainingError
from amc_training.data import archive, archive_set, digits, digits_set, image_folder, image_folder_set
from PIL import Image

from amc_plugins.plugin import SettingsError


def write(path: Path, width: int = 12, height: int = 12, level: int = 128) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (level, 0, 0)).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name, level in (("cat", 50), ("dog", 200)):
        for number in range(12):
            write(tmp_path / "pictures" / name / f"{number}.png", level=level + number)
    return tmp_path / "pictures"


def test_folders_of_classes_are_split_the_same_way_every_time(pictures: Path) -> None:
    parts = {split: image_folder_set(pictures, split, size=8) for split in ("train", "validation", "test")}
    files = {split: {path.name + path.parent.name for path, _ in part.files} for split, part in parts.items()}
    assert [len(part) for part in parts.values()] == [16, 4, 4]
    assert len(files["train"] | files["validation"] | files["test"]) == 24
    assert parts["train"].classes == ["cat", "dog"]
    assert all([label for _, label in part.files].count(1) == len(part) // 2 for part in parts.values())
    again = image_folder_set(pictures, "train", size=8)
    assert again.files == parts["train"].files
    image, label = again[0]
    assert image.shape == (3, 8, 8) and label == 0 and image.dtype == torch.float32
    assert 50 / 255 - 1e-6 <= float(image[0, 0, 0]) <= 62 / 255 and float(image[1:].abs().max()) == 0.0


def test_folders_of_splits_sizes_and_normalisation(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / split / "only" / "a.jpg", 40, 20, 255)
    grey = image_folder_set(tmp_path, "test", size=10, channels=1, mean=[0.5], std=[0.25])
    image, _ = grey[0]
    assert image.shape == (1, 10, 10) and float(image.mean()) == pytest.approx((76 / 255 - 0.5) / 0.25, abs=0.05)
    images, labels = next(iter(image_folder(tmp_path, "train", size=16, augment="crop_flip", workers=1)))
    assert images.shape == (1, 3, 16, 16) and labels.tolist() == [0]
    with pytest.raises(SettingsError, match=r"there is no folder `.*validation`"):
        image_folder(tmp_path, "validation")


def test_missing_empty_and_damaged_files(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no folder"):
        image_folder(tmp_path / "nowhere")
    (pictures / "empty").mkdir()
    with pytest.raises(TrainingError, match=r"there are no images in .*empty"):
        image_folder(pictures)
    (pictures / "empty" / "a.png").write_bytes(b"not an image")
    with pytest.raises(TrainingError, match="cannot be split into training, validation and test") as caught:
        image_folder(pictures)
    assert "three samples" in (caught.value.hint or "")
    for number in range(12):
        (pictures / "empty" / f"{number}.png").write_bytes(b"not an image")
    with pytest.raises(TrainingError, match=r"empty.*cannot be read as an image"):
        list(image_folder(pictures, size=8))
    with pytest.raises(SettingsError, match="`mean` has 2 numbers for 3 channels"):
        image_folder(pictures, mean=[0.1, 0.2])
    (tmp_path / "bare").mkdir()
    with pytest.raises(SettingsError, match="has no folders"):
        image_folder(tmp_path / "bare")


def test_archives(tmp_path: Path) -> None:
    source = digits_set("train")
    bytes_of = (source.images[:, 0] * 16).round().to(torch.uint8).numpy()
    np.savez(tmp_path / "one.npz", images=bytes_of, labels=source.labels.numpy())
    parts = [archive_set(tmp_path / "one.npz", split) for split in ("train", "validation", "test")]
    assert sum(len(part) for part in parts) == len(source) and len(parts[1]) == pytest.approx(len(source) / 6, abs=2)
    assert parts[0].images.shape[1:] == (1, 8, 8) and float(parts[0].images.max()) == pytest.approx(16 / 255)
    x, y = np.zeros((4, 3, 8, 8), np.float32), np.arange(4)
    np.savez(tmp_path / "split.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    images, labels = next(iter(archive(tmp_path / "split.npz", "test", images="x", labels="y", batch_size=3)))
    assert images.shape == (3, 3, 8, 8) and labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((4, 8, 8), np.uint8)}, "has no array `labels`; it has images"),
        ({"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(3, int)}, r"shape \(4, 8, 8\) and `labels` \(3,\)"),
        ({"images": np.zeros((4, 8, 8), np.int64), "labels": np.zeros(4, int)}, "`images` is int64"),
        ({"images": np.array([object()]), "labels": np.zeros(1, int)}, "cannot be read as a NumPy archive of plain arrays"),
    ],
)
def test_bad_archives(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises((SettingsError, TrainingError), match=message):
        archive_set(tmp_path / "bad.npz")


@pytest.mark.parametrize("augment", ["flip", "crop", "crop_flip", "erase", "randaugment"])
def test_augmentation_changes_the_training_part_only(augment: Any) -> None:
    plain, _ = next(iter(digits("train")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        changed, _ = next(iter(digits("train", augment=augment)))
        torch.manual_seed(0)
        again, _ = next(iter(digits("train", augment=augment)))
    assert changed.shape == plain.shape and not torch.equal(changed, plain) and torch.equal(changed, again)
    assert 0.0 <= float(changed.min()) and float(changed.max()) <= 1.0
    assert torch.equal(next(iter(digits("validation", augment=augment)))[0], next(iter(digits("validation")))[0])
    with pytest.raises(SettingsError, match="did you mean `flip`"):
        digits(augment="flap")  # type: ignore[arg-type]
