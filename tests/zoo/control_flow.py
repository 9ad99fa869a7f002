"""Control flow that depends on the data: a loop until the features are small enough, and an exit chosen by them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import conv_bn, finished, image

OTHER_SIZE: int | None = 24


class Adaptive(nn.Module):
    def __init__(self, width: int = 16, classes: int = 6) -> None:
        super().__init__()
        self.stem = conv_bn(3, width)
        self.refine = conv_bn(width, width)
        self.wide = conv_bn(width, 2 * width, 3, 2)
        self.narrow = conv_bn(width, 2 * width, 1, 2)
        self.exits = nn.ModuleDict({"early": nn.Linear(2 * width, classes), "late": nn.Linear(2 * width, classes)})

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        steps = 0
        while x.abs().mean() > 0.05 and steps < 3:
            x = 0.5 * F.relu(self.refine(x))
            steps += 1
        # as a script does it that has its own idea of what is hard
        x = self.wide(x) if x.max().item() > 0.0 else self.narrow(x)
        name = "late" if torch.sum(x) > -1e9 and steps >= 1 else "early"
        pooled = x.flatten(2).mean(dim=-1)
        return self.exits[name](pooled)


def build() -> nn.Module:
    return finished(Adaptive())


def inputs(batch: int, size: int = 16) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
