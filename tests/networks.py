"""Small networks that the framework's tests share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block with an in-place ReLU module used twice."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return self.relu(out)


class SmallResNet(nn.Module):
    """Two stages; `view(size(0), -1)` before the classifier."""

    def __init__(self, width: int = 8, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 1, 1)
        self.layer1 = nn.Sequential(Block(width, width), Block(width, width))
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2))
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = self.layer2(self.layer1(x))
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(x.view(x.size(0), -1))


class ShuffleUnit(nn.Module):
    """Channel shuffle written as view, transpose, reshape, between a chunk and a cat, with a depthwise convolution."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2 * width, 1)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.bn = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(2 * width, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, dim=1)
        b = F.relu(self.bn(self.depthwise(self.pointwise(b))))
        x = torch.cat([a, b], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(x)


class Gated(nn.Module):
    """A squeeze-and-excitation gate, a layer scale and a flatten with literal sizes into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.reduce = nn.Conv2d(12, 4, 1)
        self.expand = nn.Conv2d(4, 12, 1)
        self.scale = nn.Parameter(torch.rand(12, 1, 1) + 0.5)
        self.fc = nn.Linear(12 * 16, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        x = F.max_pool2d(x * gate * self.scale, 2)
        return self.fc(x.view(-1, 12 * 16))


class SkipNet(nn.Module):
    """An encoder and decoder with `interpolate(size=...)`, a skip by concatenation, and pixel shuffle at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.down2 = nn.Conv2d(8, 12, 3, 2, 1)
        self.up = nn.Conv2d(20, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3 * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.down1(x))
        deep = F.leaky_relu(self.down2(skip), 0.1)
        deep = F.interpolate(deep, size=skip.shape[2:], mode="nearest")
        x = F.silu(self.up(torch.cat([skip, deep], dim=1)))
        return F.pixel_shuffle(self.last(x), 2)


class TwoInputs(nn.Module):
    """Two inputs, nested outputs with a scalar and None, and an output that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 1)
        self.right = nn.Conv2d(2, 6, 1)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Any]:
        total = self.left(a) + self.right(b)
        return {"sum": total, "more": [total.tanh(), (total.mean(), None)], "version": 3}


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with batch norms whose statistics and weights are not the trivial ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval()
