"""Res2Net (Gao et al. 2019): the pieces of a split run one after the other, each adding the one before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 40


class Bottle2neck(nn.Module):
    def __init__(self, inputs: int, outputs: int, width: int, stride: int, scale: int = 4) -> None:
        super().__init__()
        self.width, self.scale, self.first = width, scale, stride > 1 or inputs != outputs
        self.conv1 = conv_bn(inputs, width * scale, 1)
        self.convs = nn.ModuleList(conv_bn(width, width, 3, stride) for _ in range(scale - 1))
        self.pool = nn.AvgPool2d(3, stride, 1)
        self.conv3 = conv_bn(width * scale, outputs, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if self.first:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False), conv_bn(inputs, outputs, 1)
            )

    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.split(self.relu(self.conv1(x)), self.width, 1)
        found: list[Tensor] = []
        for index, conv in enumerate(self.convs):
            piece = pieces[index] if index == 0 or self.first else found[-1] + pieces[index]
            found.append(self.relu(conv(piece)))
        found.append(self.pool(pieces[-1]) if self.first else pieces[-1])
        out = self.conv3(torch.cat(found, 1))
        out += self.downsample(x)
        return self.relu(out)


class Res2Net(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 12, 3, 2), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(
            Bottle2neck(12, 24, 4, 1), Bottle2neck(24, 24, 4, 1), Bottle2neck(24, 48, 8, 2), Bottle2neck(48, 48, 8, 1)
        )
        self.fc = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


def build() -> nn.Module:
    return finished(Res2Net())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
