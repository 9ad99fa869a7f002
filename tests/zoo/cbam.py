"""A residual network with CBAM (Woo et al. 2018) and ECA gates (Wang et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 24


class ChannelGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, channels // 4), nn.ReLU(), nn.Linear(channels // 4, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        size = (x.size(2), x.size(3))
        average = self.mlp(F.avg_pool2d(x, size, stride=size))
        largest = self.mlp(F.max_pool2d(x, size, stride=size))
        scale = torch.sigmoid(average + largest).unsqueeze(2).unsqueeze(3).expand_as(x)
        return x * scale


class SpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spatial = conv_bn(2, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
        return x * torch.sigmoid(self.spatial(pooled))


class ECA(nn.Module):
    """A one-dimensional convolution across the channels: each channel's gate depends on its neighbours'."""

    def __init__(self, kernel: int = 3) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.avg_pool(x)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * y.sigmoid().expand_as(x)


class Block(nn.Module):
    def __init__(self, width: int, gate: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv_bn(width, 2 * width)
        self.conv2 = conv_bn(2 * width, width)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.gate(self.conv2(F.relu(self.conv1(x)))))


class Gates(nn.Module):
    def __init__(self, width: int = 12, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_bn(3, width, 3, 2)
        self.channel = Block(width, ChannelGate(width))
        self.spatial = Block(width, SpatialGate())
        self.down = conv_bn(width, width, 3, 2)
        self.eca = Block(width, ECA())
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.spatial(self.channel(F.relu(self.stem(x))))
        x = self.eca(F.relu(self.down(x)))
        return self.fc(x.mean((-2, -1)))


def build() -> nn.Module:
    return finished(Gates())


def inputs(batch: int, size: int = 16) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
