"""The three networks, in plain torch: a user's code. Input (N, 1, 28, 28), ten classes.

| name        | MACs   | parameters | what it has                                                               |
|-------------|--------|------------|---------------------------------------------------------------------------|
| vgg         | 9.7 M  | 0.14 M     | a chain of 3 x 3 convolutions, flatten into a hidden linear layer          |
| resnet20    | 8.5 M  | 0.27 M     | residual stages of 16, 32 and 64 channels, 1 x 1 shortcuts                 |
| mobilenetv2 | 3.7 M  | 0.12 M     | inverted residuals with ReLU6: depthwise, linear bottlenecks               |
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["NETWORKS", "VGG", "MobileNetV2", "ResNet20"]


def _conv_norm(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for stage in ((16, 24), (32, 48), (56, 64)):
            for outputs in stage:
                layers += [*_conv_norm(width, outputs), nn.ReLU()]
                width = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(width * 9, 96), nn.ReLU(), nn.Linear(96, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv_norm(inputs, outputs, stride=stride)
        self.conv2, self.bn2 = _conv_norm(outputs, outputs)
        self.relu = nn.ReLU()
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv_norm(inputs, outputs, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(1, 16, stride=2), nn.ReLU())
        width = 16
        for index, outputs in enumerate((16, 32, 64), start=1):
            blocks = []
            for block in range(3):
                blocks.append(BasicBlock(width, outputs, stride=2 if index > 1 and block == 0 else 1))
                width = outputs
            setattr(self, f"layer{index}", nn.Sequential(*blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(self.pool(x).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv_norm(inputs, hidden, 1), nn.ReLU6()]
        layers += [*_conv_norm(hidden, hidden, stride=stride, groups=hidden), nn.ReLU6(), *_conv_norm(hidden, outputs, 1)]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_conv_norm(1, 16, stride=2), nn.ReLU6()]
        width = 16
        for expansion, outputs, blocks, stride in ((1, 16, 1, 1), (4, 24, 2, 2), (4, 40, 3, 1), (4, 64, 2, 2)):
            for block in range(blocks):
                layers.append(InvertedResidual(width, outputs, stride if block == 0 else 1, expansion))
                width = outputs
        layers += [*_conv_norm(width, 192, 1), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


NETWORKS: dict[str, type[nn.Module]] = {"vgg": VGG, "resnet20": ResNet20, "mobilenetv2": MobileNetV2}
