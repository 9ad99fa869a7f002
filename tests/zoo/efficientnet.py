"""EfficientNet (Tan and Le 2019): MBConv with SiLU and a gate, `same` padding as in TensorFlow, stochastic depth."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import finished, image

OTHER_SIZE: int | None = 41


class Conv2dSame(nn.Conv2d):
    """Pads to ceil(size / stride), more at the end, as TensorFlow does."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = input.size()[-2:]
        pads = []
        for size, kernel, stride in (
            (width, self.kernel_size[1], self.stride[1]),
            (height, self.kernel_size[0], self.stride[0]),
        ):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            input = F.pad(input, pads)
        return F.conv2d(input, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def drop_connect(x: Tensor, rate: float, training: bool) -> Tensor:
    if not training:
        return x
    keep = 1 - rate
    mask = torch.floor(keep + torch.rand([x.shape[0], 1, 1, 1], dtype=x.dtype, device=x.device))
    return x / keep * mask


class MBConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = expand
        if expand != 1:
            self.expand_conv = Conv2dSame(inputs, hidden, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(hidden, momentum=0.01, eps=1e-3)
        self.depthwise = Conv2dSame(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden, momentum=0.01, eps=1e-3)
        self.se_reduce = nn.Conv2d(hidden, max(1, inputs // 4), 1)
        self.se_expand = nn.Conv2d(max(1, inputs // 4), hidden, 1)
        self.project = Conv2dSame(hidden, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, momentum=0.01, eps=1e-3)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        x = inputs
        if self.expand != 1:
            x = F.silu(self.bn0(self.expand_conv(x)))
        x = F.silu(self.bn1(self.depthwise(x)))
        gate = self.se_expand(F.silu(self.se_reduce(F.adaptive_avg_pool2d(x, 1))))
        x = torch.sigmoid(gate) * x
        x = self.bn2(self.project(x))
        if self.skip:
            x = drop_connect(x, 0.2, self.training)
            x = x + inputs
        return x


class EfficientNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = Conv2dSame(3, 8, 3, 2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList(
            [MBConv(8, 8, 1, 3, 1), MBConv(8, 12, 4, 3, 2), MBConv(12, 12, 4, 3, 1), MBConv(12, 20, 4, 5, 2)]
        )
        self.head = Conv2dSame(20, 48, 1, bias=False)
        self.bn_head = nn.BatchNorm2d(48)
        self.fc = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = F.silu(self.bn_head(self.head(x)))
        return self.fc(F.dropout(F.adaptive_avg_pool2d(x, 1).flatten(start_dim=1), 0.2, self.training))


def build() -> nn.Module:
    return finished(EfficientNet())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
