"""U-Net (Ronneberger et al. 2015) whose decoder resizes to the skip's size, so that odd sizes work."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import finished, image

OTHER_SIZE: int | None = 45


class DoubleConv(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class UNet(nn.Module):
    def __init__(self, width: int = 6, classes: int = 4) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.downs = nn.ModuleList([DoubleConv(a, b) for a, b in zip([3, *widths], widths, strict=False)])
        self.bottom = DoubleConv(widths[-1], 8 * width)
        self.upconv = nn.ConvTranspose2d(8 * width, 4 * width, 2, 2)
        self.ups = nn.ModuleList(
            [DoubleConv(8 * width, 4 * width), DoubleConv(6 * width, 2 * width), DoubleConv(3 * width, width)]
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.upconv(self.bottom(x))
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            if x.shape[-2:] != skip.shape[-2:] or up is not self.ups[0]:
                x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([skip, x], dim=1))
        return self.head(x)


def build() -> nn.Module:
    return finished(UNet())


def inputs(batch: int, size: int = 29) -> tuple[Tensor, ...]:
    return (image(batch, size, size + 6),)
