"""GoogLeNet (Szegedy et al. 2015): four branches, max pooling with ceil, auxiliary classifiers in training mode only."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 45


class Outputs(NamedTuple):
    logits: Tensor
    aux: Tensor | None


class Branches(nn.Module):
    def __init__(self, inputs: int, one: int, three: int, five: int, pool: int) -> None:
        super().__init__()
        self.branch1 = nn.Sequential(conv_bn(inputs, one, 1), nn.ReLU())
        self.branch2 = nn.Sequential(conv_bn(inputs, three // 2, 1), nn.ReLU(), conv_bn(three // 2, three), nn.ReLU())
        self.branch3 = nn.Sequential(conv_bn(inputs, five // 2, 1), nn.ReLU(), conv_bn(five // 2, five), nn.ReLU())
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_bn(inputs, pool, 1), nn.ReLU())

    def _forward(self, x: Tensor) -> list[Tensor]:
        return [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self._forward(x), 1)


class GoogLeNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv_bn(3, 12, 3, 2), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Branches(12, 6, 8, 6, 4)
        self.inception3b = Branches(24, 8, 12, 6, 6)
        self.aux1 = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * 24, classes))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Outputs | Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.inception3a(x)
        aux = self.aux1(x) if self.training else None
        x = self.inception3b(x)
        x = self.fc(self.dropout(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))
        return Outputs(x, aux) if self.training else x


def build() -> nn.Module:
    return finished(GoogLeNet())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
