from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_training.data import digits_set
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def small_network(seed: int = 0, dropout: float = 0.0) -> nn.Module:
    """A convolution with batch norm, dropout and a linear layer, on digits; the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Dropout(dropout), nn.Linear(128, 10),
        )  # fmt: skip


def digits_loader(split: Any = "train", count: int = 200, batch_size: int = 32, **options: Any) -> DataLoader[Any]:
    """The first `count` digits of a split; `options` go to the loader."""
    images = digits_set(split)
    return DataLoader(TensorDataset(images.images[:count], images.labels[:count]), batch_size=batch_size, **options)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar in the event files of a folder: tag -> (step, value) in the order of writing."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, start = path.read_bytes(), 0
        while start < len(content):  # TFRecord: length, its checksum, data, its checksum
            (length,) = struct.unpack_from("<Q", content, start)
            event = Event.FromString(content[start + 12 : start + 12 + length])
            start += 12 + length + 4
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    return small_network


@pytest.fixture
def loader() -> Callable[..., DataLoader[Any]]:
    return digits_loader


@pytest.fixture
def read_scalars() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    return scalars


@pytest.fixture
def parts() -> Callable[..., dict[str, Any]]:
    """Constructor keywords of a trainer over a small network; override any."""

    def build(**changed: Any) -> dict[str, Any]:
        net = changed.pop("network", None) or small_network()
        given: dict[str, Any] = {
            "train_loader": digits_loader(),
            "val_loader": digits_loader("validation", 100),
            "eval_loader": None,
            "network": net,
            "criterion": nn.CrossEntropyLoss(),
            "optimizer": torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9),
            "scheduler": None,
            "epochs": 2,
            "device": "cpu",
            "tbx_writer": None,
            "checkpoints_folder": None,
            "additional_args": None,
        }
        return {**given, **changed}

    return build
