"""GhostNet (Han et al. 2020): half of the channels are cheap depthwise copies, concatenated and cut with a slice."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 48


class GhostModule(nn.Module):
    def __init__(self, inputs: int, outputs: int, relu: bool = True, ratio: int = 2) -> None:
        super().__init__()
        self.oup = outputs
        first = math.ceil(outputs / ratio)
        self.primary_conv = nn.Sequential(conv_bn(inputs, first, 1), nn.ReLU(inplace=True) if relu else nn.Sequential())
        self.cheap_operation = nn.Sequential(
            conv_bn(first, first * (ratio - 1), 3, 1, first), nn.ReLU(inplace=True) if relu else nn.Sequential()
        )

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        return torch.cat([x1, x2], dim=1)[:, : self.oup, :, :]


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, channels // 4, 1)
        self.conv_expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.relu(self.conv_reduce(F.adaptive_avg_pool2d(x, 1)))
        return x * (F.relu6(self.conv_expand(gate) + 3.0) / 6.0)


class GhostBottleneck(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int, se: bool) -> None:
        super().__init__()
        self.stride = stride
        self.ghost1 = GhostModule(inputs, hidden)
        self.conv_dw = conv_bn(hidden, hidden, 3, stride, hidden) if stride > 1 else nn.Sequential()
        self.se = SqueezeExcite(hidden) if se else None
        self.ghost2 = GhostModule(hidden, outputs, relu=False)
        self.shortcut: nn.Module = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv_bn(inputs, inputs, 3, stride, inputs), conv_bn(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        x = self.ghost1(x)
        if self.stride > 1:
            x = self.conv_dw(x)
        if self.se is not None:
            x = self.se(x)
        x = self.ghost2(x)
        x += self.shortcut(residual)
        return x


class GhostNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 8, 3, 2), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(
            GhostBottleneck(8, 8, 8, 1, False),
            GhostBottleneck(8, 25, 12, 2, False),
            GhostBottleneck(12, 36, 12, 1, True),
            GhostBottleneck(12, 48, 20, 2, True),
        )
        self.conv_head = nn.Conv2d(20, 40, 1)
        self.classifier = nn.Linear(40, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.blocks(self.stem(x)), (1, 1))
        x = F.relu(self.conv_head(x), inplace=True)
        return self.classifier(x.view(x.size(0), -1))


def build() -> nn.Module:
    return finished(GhostNet())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
