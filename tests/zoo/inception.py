"""Inception-v3 (Szegedy et al. 2016): factorised convolutions, nested branches, input normalised channel by channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import finished, image

OTHER_SIZE: int | None = 48


class BasicConv2d(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int] = 1, stride: int = 1) -> None:
        super().__init__()
        pad = (kernel[0] // 2, kernel[1] // 2) if isinstance(kernel, tuple) else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class InceptionA(nn.Module):
    def __init__(self, inputs: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 8)
        self.branch5x5_1 = BasicConv2d(inputs, 6)
        self.branch5x5_2 = BasicConv2d(6, 8, 5)
        self.branch_pool = BasicConv2d(inputs, pool)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.branch_pool(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), pooled], 1)


class InceptionB(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(inputs, 8, 3, 2)
        self.branch3x3dbl_1 = BasicConv2d(inputs, 6)
        self.branch3x3dbl_2 = BasicConv2d(6, 8, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        return torch.cat([self.branch3x3(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x)), pooled], 1)


class InceptionC(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 8)
        self.branch7x7_1 = BasicConv2d(inputs, width)
        self.branch7x7_2 = BasicConv2d(width, width, (1, 7))
        self.branch7x7_3 = BasicConv2d(width, 8, (7, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1x1(x), self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))], 1)


class InceptionE(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(inputs, 8)
        self.branch3x3_2a = BasicConv2d(8, 8, (1, 3))
        self.branch3x3_2b = BasicConv2d(8, 8, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.branch3x3_1(x)
        return torch.cat([self.branch3x3_2a(x), self.branch3x3_2b(x)], 1)


class Inception(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 8, 3, 2)
        self.Mixed_5b = InceptionA(8, 4)
        self.Mixed_6a = InceptionB(20)
        self.Mixed_6b = InceptionC(36, 6)
        self.Mixed_7c = InceptionE(16)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(16, classes)

    def transform_input(self, x: Tensor) -> Tensor:
        red = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
        green = torch.unsqueeze(x[:, 1], 1) * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
        blue = torch.unsqueeze(x[:, 2], 1) * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
        return torch.cat((red, green, blue), 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_1a_3x3(self.transform_input(x))
        x = self.Mixed_7c(self.Mixed_6b(self.Mixed_6a(self.Mixed_5b(x))))
        return self.fc(torch.flatten(self.dropout(F.adaptive_avg_pool2d(x, (1, 1))), 1))


def build() -> nn.Module:
    return finished(Inception())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
