"""Super-resolution by pixel shuffle (ESPCN, Shi et al. 2016) with a pixel unshuffle in front and a global skip."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import finished, image

OTHER_SIZE: int | None = 24


class Espcn(nn.Module):
    def __init__(self, width: int = 16, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.unshuffle = nn.PixelUnshuffle(2)
        self.conv1 = nn.Conv2d(12, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.expand = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.shuffle1 = nn.PixelShuffle(2)
        self.conv3 = nn.Conv2d(width, 3 * factor**2, 3, padding=1)
        self.act = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.conv1(self.unshuffle(x)))
        y = self.act(self.conv2(y)) + y
        y = self.shuffle1(self.expand(y))
        y = F.pixel_shuffle(self.conv3(y), self.factor)
        skip = F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)
        return torch.clamp(y + skip, 0.0, 1.0)


def build() -> nn.Module:
    return finished(Espcn())


def inputs(batch: int, size: int = 16) -> tuple[Tensor, ...]:
    return (image(batch, size, size + 2),)
