"""A small residual network trained on the digits of scikit-learn, once per session."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class DigitsNet(nn.Module):
    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.stage1 = Block(width, width)
        self.stage2 = Block(width, 2 * width, 2)
        self.fc = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.stage1(F.relu(self.bn(self.stem(x)))))
        return self.fc(x.mean((2, 3)))


@dataclass
class Digits:
    network: ReconstructedNetwork
    train: Tensor
    test: Tensor
    labels: Tensor

    def accuracy(self, network: nn.Module) -> float:
        """Per cent of the test digits."""
        with torch.no_grad():
            return 100.0 * float((network.eval()(self.test).argmax(1) == self.labels).float().mean())


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = (torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1)[order]
    labels = torch.tensor(data.target)[order]
    train, train_labels = images[:1300], labels[:1300]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DigitsNet()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=10 * 26)
        for _ in range(10):
            for part in torch.randperm(1300).split(50):
                optimizer.zero_grad()
                F.cross_entropy(model(train[part]), train_labels[part]).backward()
                optimizer.step()
                schedule.step()
    return Digits(capture(model.eval(), images[:2]), train, images[1300:], labels[1300:])
