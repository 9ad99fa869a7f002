"""MobileNetV2 (Sandler et al. 2018): inverted residuals with depthwise convolutions and ReLU6."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 48


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [conv_bn(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [conv_bn(hidden, hidden, 3, stride, hidden), nn.ReLU6(inplace=True), conv_bn(hidden, outputs, 1)]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        plan = [(1, 8, 1, 1), (4, 12, 2, 2), (4, 16, 2, 2)]
        layers: list[nn.Module] = [nn.Sequential(conv_bn(3, 8, 3, 2), nn.ReLU6(inplace=True))]
        inputs = 8
        for expand, outputs, count, stride in plan:
            for index in range(count):
                layers.append(InvertedResidual(inputs, outputs, 1 if index else stride, expand))
                inputs = outputs
        layers.append(nn.Sequential(conv_bn(inputs, 48, 1), nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(48, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1)).reshape(x.shape[0], -1)
        return self.classifier(x)


def build() -> nn.Module:
    return finished(MobileNetV2())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
