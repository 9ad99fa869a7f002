"""SE-ResNeXt (Hu et al. 2018): grouped bottlenecks with squeeze-and-excitation written with linear layers and views."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 40


class SELayer(nn.Module):
    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        width = outputs // 2
        self.reduce = conv_bn(inputs, width, 1)
        self.grouped = conv_bn(width, width, 3, stride, groups)
        self.expand = conv_bn(width, outputs, 1)
        self.se = SELayer(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = conv_bn(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.reduce(x))
        y = self.relu(self.grouped(y))
        y = self.se(self.expand(y))
        return self.relu(y + self.shortcut(x))


class SENet(nn.Module):
    def __init__(self, width: int = 16, groups: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_bn(3, width)
        self.layers = nn.Sequential(
            Block(width, 2 * width, 1, groups), Block(2 * width, 2 * width, 1, groups), Block(2 * width, 4 * width, 2, groups)
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.stem(x).relu_()))


def build() -> nn.Module:
    return finished(SENet())


def inputs(batch: int, size: int = 16) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
