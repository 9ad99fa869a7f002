"""A YOLOv5-like backbone and neck: CSP blocks, SPPF, a path up and down with concatenations, one output a scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.common import finished, image

OTHER_SIZE: int | None = 96


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = Conv(width, width)
        self.cv2 = Conv(width, width, 3)
        self.add = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C3(nn.Module):
    def __init__(self, inputs: int, outputs: int, n: int = 1, shortcut: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1 = Conv(inputs, half)
        self.cv2 = Conv(inputs, half)
        self.cv3 = Conv(2 * half, outputs)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C2f(nn.Module):
    """YOLOv8's block: the pieces of a chunk and every bottleneck's result are concatenated."""

    def __init__(self, inputs: int, outputs: int, n: int = 1) -> None:
        super().__init__()
        self.c = outputs // 2
        self.cv1 = Conv(inputs, 2 * self.c)
        self.cv2 = Conv((2 + n) * self.c, outputs)
        self.m = nn.ModuleList(Bottleneck(self.c, True) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class SPPF(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int = 5) -> None:
        super().__init__()
        self.cv1 = Conv(inputs, inputs // 2)
        self.cv2 = Conv(inputs * 2, outputs)
        self.m = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class Yolo(nn.Module):
    def __init__(self, width: int = 8, classes: int = 4) -> None:
        super().__init__()
        w2, w4, w8 = 2 * width, 4 * width, 8 * width
        self.stem = Conv(3, width, 6, 2)
        self.stage2 = nn.Sequential(Conv(width, w2, 3, 2), C3(w2, w2, 1))
        self.stage3 = nn.Sequential(Conv(w2, w4, 3, 2), C2f(w4, w4, 2))
        self.stage4 = nn.Sequential(Conv(w4, w8, 3, 2), C3(w8, w8, 1), SPPF(w8, w8))
        self.reduce4 = Conv(w8, w4)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.top3 = C3(w8, w4, 1, shortcut=False)
        self.reduce3 = Conv(w4, w2)
        self.top2 = C3(w4, w2, 1, shortcut=False)
        self.down2 = Conv(w2, w2, 3, 2)
        self.out3 = C3(w4, w4, 1, shortcut=False)
        self.down3 = Conv(w4, w4, 3, 2)
        self.out4 = C3(w8, w8, 1, shortcut=False)
        self.outputs = 3 * (5 + classes)
        self.heads = nn.ModuleList(nn.Conv2d(w, self.outputs, 1) for w in (w2, w4, w8))

    def forward(self, x: Tensor) -> list[Tensor]:
        p2 = self.stage2(self.stem(x))
        p3 = self.stage3(p2)
        lat4 = self.reduce4(self.stage4(p3))
        lat3 = self.reduce3(self.top3(torch.cat([self.up(lat4), p3], 1)))
        n2 = self.top2(torch.cat([self.up(lat3), p2], 1))
        n3 = self.out3(torch.cat([self.down2(n2), lat3], 1))
        n4 = self.out4(torch.cat([self.down3(n3), lat4], 1))
        found = []
        for head, level in zip(self.heads, (n2, n3, n4), strict=True):
            y = head(level)
            batch, _, height, width = y.shape
            found.append(y.view(batch, 3, self.outputs // 3, height, width).permute(0, 1, 3, 4, 2).contiguous())
        return found


def build() -> nn.Module:
    return finished(Yolo())


def inputs(batch: int, size: int = 64) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
