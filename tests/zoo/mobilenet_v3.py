"""MobileNetV3 (Howard et al. 2019): hard swish, squeeze-and-excitation with hard sigmoid, written as older code does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 48


class HSigmoid(nn.Module):
    """relu6(x + 3) / 6, spelled out."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3.0, inplace=True) / 6.0


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, spelled: bool) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)
        self.scale = HSigmoid() if spelled else nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = F.adaptive_avg_pool2d(x, 1)
        scale = self.scale(self.fc2(F.relu(self.fc1(scale))))
        return scale * x


class Block(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int, stride: int, se: bool, hs: bool) -> None:
        super().__init__()
        act = nn.Hardswish if hs else nn.ReLU
        layers: list[nn.Module] = []
        if hidden != inputs:
            layers += [conv_bn(inputs, hidden, 1), act(inplace=True)]
        layers += [conv_bn(hidden, hidden, kernel, stride, hidden), act(inplace=True)]
        if se:
            layers.append(SqueezeExcitation(hidden, spelled=hs))
        layers.append(conv_bn(hidden, outputs, 1))
        self.block = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        result = self.block(x)
        if self.residual:
            result += x
        return result


class MobileNetV3(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 8, 3, 2),
            nn.Hardswish(),
            Block(8, 8, 8, 3, 1, True, False),
            Block(8, 24, 12, 3, 2, False, False),
            Block(12, 32, 12, 5, 1, True, True),
            Block(12, 48, 16, 5, 2, True, True),
            Block(16, 48, 16, 5, 1, True, True),
            conv_bn(16, 48, 1),
            nn.Hardswish(),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(48, 40), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(40, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def build() -> nn.Module:
    return finished(MobileNetV3())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
