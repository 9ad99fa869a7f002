"""A DeepLabv3-like segmentation network (Chen et al. 2017): dilated convolutions, ASPP, a dictionary of outputs."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 40


class ASPP(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Sequential(conv_bn(inputs, width, 1), nn.ReLU())])
        for rate in (2, 3):
            conv = nn.Conv2d(inputs, width, 3, padding=rate, dilation=rate, bias=False)
            self.convs.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn(inputs, width, 1), nn.ReLU())
        self.project = nn.Sequential(conv_bn(4 * width, width, 1), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        found = [conv(x) for conv in self.convs]
        size = x.shape[-2:]
        found.append(F.interpolate(self.pooling(x), size=size, mode="bilinear", align_corners=False))
        return self.project(torch.cat(found, dim=1))


class DeepLab(nn.Module):
    def __init__(self, width: int = 8, classes: int = 5) -> None:
        super().__init__()
        self.low = nn.Sequential(conv_bn(3, width, 3, 2), nn.ReLU())
        self.high = nn.Sequential(conv_bn(width, 2 * width, 3, 2), nn.ReLU(), conv_bn(2 * width, 4 * width), nn.ReLU())
        self.aspp = ASPP(4 * width, 2 * width)
        self.classifier = nn.Conv2d(2 * width, classes, 1)
        self.aux_classifier = nn.Sequential(conv_bn(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.shape[-2:]
        features = OrderedDict(low=self.low(x))
        features["high"] = self.high(features["low"])
        result: dict[str, Tensor] = OrderedDict()
        y = self.classifier(self.aspp(features["high"]))
        result["out"] = F.interpolate(y, size=size, mode="bilinear", align_corners=False)
        result["aux"] = F.interpolate(self.aux_classifier(features["low"]), size=size, mode="bilinear", align_corners=False)
        return result


def build() -> nn.Module:
    return finished(DeepLab())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
