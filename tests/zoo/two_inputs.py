"""A Siamese matcher: one encoder reads two images, their features are compared, added and concatenated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 40


class Siamese(nn.Module):
    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            conv_bn(3, width, 3, 2), nn.ReLU(inplace=True), conv_bn(width, 2 * width, 3, 2), nn.ReLU(inplace=True)
        )
        self.depth = conv_bn(1, 2 * width, 3, 4)
        self.fuse = conv_bn(6 * width, 2 * width)
        self.flow = nn.Conv2d(2 * width, 2, 3, padding=1)
        self.score = nn.Linear(2 * width, 1)

    def forward(self, left: Tensor, right: Tensor, depth: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self.encoder(left), self.encoder(input=right)
        if depth is not None:
            a = a + self.depth(depth)
        fused = self.fuse(torch.cat([a, b, a - b], dim=1)).relu()
        return self.flow(fused), self.score(fused.mean(dim=(2, 3))).squeeze(-1)


def build() -> nn.Module:
    return finished(Siamese())


def inputs(batch: int, size: int = 24) -> tuple[Tensor, ...]:
    return image(batch, size, size), image(batch, size, size, seed=1), image(batch, size, size, channels=1, seed=2)
