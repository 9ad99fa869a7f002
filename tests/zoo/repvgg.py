"""RepVGG (Ding et al. 2021) in its training form: the sum of a 3x3, a 1x1 and an identity branch with batch norms."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 40


class RepVGGBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.nonlinearity = nn.ReLU()
        self.rbr_identity = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None
        self.rbr_dense = conv_bn(inputs, outputs, 3, stride, groups)
        self.rbr_1x1 = conv_bn(inputs, outputs, 1, stride, groups)

    def forward(self, inputs: Tensor) -> Tensor:
        id_out = 0 if self.rbr_identity is None else self.rbr_identity(inputs)
        return self.nonlinearity(self.rbr_dense(inputs) + self.rbr_1x1(inputs) + id_out)


class RepVGG(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stage0 = RepVGGBlock(3, 8, 2)
        self.stage1 = nn.Sequential(RepVGGBlock(8, 16, 2), RepVGGBlock(16, 16), RepVGGBlock(16, 16, groups=2))
        self.stage2 = nn.Sequential(RepVGGBlock(16, 32, 2), RepVGGBlock(32, 32, groups=2))
        self.gap = nn.AdaptiveAvgPool2d(output_size=1)
        self.linear = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.gap(self.stage2(self.stage1(self.stage0(x))))
        return self.linear(out.view(out.size(0), -1))


def build() -> nn.Module:
    return finished(RepVGG())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
