"""VGG (Simonyan and Zisserman 2015) whose classifier reads the flattened map, so that a channel owns many features."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.common import finished, image

OTHER_SIZE: int | None = None  # the first linear layer is for one size


class VGG(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (8, "M", 16, "M", 24, 24, "M"):
            if isinstance(outputs, str):
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
            else:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(24 * 4 * 4, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(True),
            nn.Dropout(), nn.Linear(32, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = x.view(-1, 24 * 4 * 4)
        return self.classifier(x)


def build() -> nn.Module:
    return finished(VGG())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
