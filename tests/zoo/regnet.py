"""RegNetY (Radosavovic et al. 2020): grouped convolutions of a fixed group width, gates, stages of equal blocks."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 48


class YBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, group_width: int) -> None:
        super().__init__()
        self.proj = conv_bn(inputs, outputs, 1, stride) if inputs != outputs or stride != 1 else None
        self.a = conv_bn(inputs, outputs, 1)
        self.b = conv_bn(outputs, outputs, 3, stride, outputs // group_width)
        squeeze = max(1, inputs // 4)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(outputs, squeeze, 1), nn.ReLU(), nn.Conv2d(squeeze, outputs, 1), nn.Sigmoid()
        )
        self.c = conv_bn(outputs, outputs, 1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.a(x))
        y = self.activation(self.b(y))
        y = self.c(y * self.se(y))
        x = y + (x if self.proj is None else self.proj(x))
        return self.activation(x)


class RegNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 8, 3, 2), nn.ReLU(inplace=True))
        self.trunk_output = nn.Sequential(YBlock(8, 16, 2, 4), YBlock(16, 16, 1, 4), YBlock(16, 32, 2, 4), YBlock(32, 32, 1, 8))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.trunk_output(self.stem(x)))
        return self.fc(x.flatten(start_dim=1))


def build() -> nn.Module:
    return finished(RegNet())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
