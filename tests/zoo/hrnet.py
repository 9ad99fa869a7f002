"""HRNet (Wang et al. 2019): parallel resolutions that exchange features by strided convolutions and upsampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 48


class BasicBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(width, width)
        self.conv2 = conv_bn(width, width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))) + x)


class HighResolutionModule(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(BasicBlock(width)) for width in widths)
        self.fuse_layers = nn.ModuleList()
        for i, mine in enumerate(widths):
            row = nn.ModuleList()
            for j, theirs in enumerate(widths):
                if j > i:
                    row.append(conv_bn(theirs, mine, 1))
                elif j == i:
                    row.append(nn.Identity())
                else:
                    steps: list[nn.Module] = []
                    for k in range(i - j):
                        last = k == i - j - 1
                        steps.append(conv_bn(theirs, mine if last else theirs, 3, 2))
                        if not last:
                            steps.append(nn.ReLU(inplace=False))
                    row.append(nn.Sequential(*steps))
            self.fuse_layers.append(row)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(one) for branch, one in zip(self.branches, x, strict=True)]
        fused = []
        for i, row in enumerate(self.fuse_layers):
            y: Tensor | None = None
            for j, layer in enumerate(row):
                z = layer(x[j])
                if j > i:
                    z = F.interpolate(z, size=[x[i].shape[-2], x[i].shape[-1]], mode="nearest")
                y = z if y is None else y + z
            assert y is not None
            fused.append(self.relu(y))
        return fused


class HRNet(nn.Module):
    def __init__(self, width: int = 6, classes: int = 5) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.stem = nn.Sequential(conv_bn(3, width, 3, 2), nn.ReLU(inplace=True))
        self.transition = nn.ModuleList([nn.Identity(), conv_bn(width, 2 * width, 3, 2), conv_bn(2 * width, 4 * width, 3, 2)])
        self.stage = nn.ModuleList([HighResolutionModule(widths), HighResolutionModule(widths)])
        self.last_layer = nn.Sequential(conv_bn(7 * width, 4 * width, 1), nn.ReLU(), nn.Conv2d(4 * width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        levels = []
        for transition in self.transition:
            x = transition(x)
            levels.append(x)
        for module in self.stage:
            levels = module(levels)
        height, width = levels[0].size(2), levels[0].size(3)
        resized = [F.interpolate(one, size=(height, width), mode="bilinear", align_corners=True) for one in levels[1:]]
        return self.last_layer(torch.cat([levels[0], *resized], 1))


def build() -> nn.Module:
    return finished(HRNet())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
