"""What the checks run plugins on: small networks of the usual kinds, and digits of 8 x 8 pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_plugins.core.errors import AmcError
from amc_plugins.graph import ReconstructedNetwork, capture
from amc_plugins.testing.checks import DoesNotApply

__all__ = ["batches", "branching", "digits", "made", "residual", "two_inputs", "with_unknown_call"]

_FONT = (
    "0E11131519110E 040C040404040E 0E11010204081F 1F02040201110E 02060A121F0202 "
    "1F101E0101110E 0608101E11110E 1F010204080808 0E11110E11110E 0E11110F01020C"
)
"""The ten digits, seven rows of five pixels each."""


def digits(count: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (count, 1, 8, 8) in about [0, 1] of the ten digits in turn, shifted and noisy, and labels (count,)."""
    generator = torch.Generator().manual_seed(seed)
    rows = [[int(glyph[2 * row : 2 * row + 2], 16) for row in range(7)] for glyph in _FONT.split()]
    glyphs = torch.tensor([[[row >> shift & 1 for shift in range(4, -1, -1)] for row in glyph] for glyph in rows])
    labels = torch.arange(count) % 10
    images = torch.zeros(count, 8, 8)
    places = torch.stack([torch.randint(0, most, (count,), generator=generator) for most in (2, 4)], 1).tolist()
    for index, (top, left) in enumerate(places):
        images[index, top : top + 7, left : left + 5] = glyphs[labels[index]].float()
    images += 0.15 * torch.randn(images.shape, generator=generator)
    return images.unsqueeze(1), labels


def batches(count: int = 96, size: int = 24, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Those digits in batches of images and labels."""
    images, labels = digits(count, seed)
    return list(zip(images.split(size), labels.split(size), strict=True))


class _Residual(nn.Module):
    """Convolutions with batch norms, one shortcut, mean and a linear layer: (N, 1, 8, 8) to (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.norm_down = nn.BatchNorm2d(12)
        self.inner = nn.Conv2d(12, 10, 3, padding=1)
        self.outer = nn.Conv2d(10, 12, 3, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.norm_down(self.down(x)))
        x = F.relu(x + self.outer(F.relu(self.inner(x))))
        out: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


class _Branching(nn.Module):
    """A depthwise convolution, concatenated branches, a layer that runs twice, and a flatten: (N, 1, 8, 8) to (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.left = nn.Conv2d(8, 6, 1)
        self.right = nn.Conv2d(8, 5, 3, padding=1)
        self.twice = nn.Conv2d(11, 11, 1)
        self.head = nn.Linear(11 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.depthwise(F.relu(self.stem(x))))
        x = F.max_pool2d(torch.cat([self.left(x), F.relu(self.right(x))], 1), 2)
        x = self.twice(F.relu(self.twice(x)))
        out: Tensor = self.head(x.flatten(1))
        return out


class _TwoInputs(nn.Module):
    """Two inputs and nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 4, 3, padding=1)
        self.right = nn.Conv2d(1, 4, 1)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Any]:
        total = F.relu(self.left(a)) + self.right(b)
        return {"sum": total, "more": [F.max_pool2d(total, 2)]}


class _Unknown(nn.Module):
    """A call that no handler covers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.linalg.matrix_power(self.stem(x), 3)
        return out


def residual() -> ReconstructedNetwork:
    """`_Residual`, captured; its batch norms have statistics of the digits."""
    return _captured(_Residual, 1)


def branching() -> ReconstructedNetwork:
    """`_Branching`, captured."""
    return _captured(_Branching, 1)


def two_inputs() -> ReconstructedNetwork:
    """`_TwoInputs`, captured."""
    return _captured(_TwoInputs, 2)


def with_unknown_call() -> ReconstructedNetwork:
    """`_Unknown`, captured: `torch.linalg.matrix_power` is opaque."""
    return _captured(_Unknown, 1, strict=False)


def made(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module whose initialisation leaves torch's global random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind()


@cache
def _original(kind: Callable[[], nn.Module], inputs: int, strict: bool) -> ReconstructedNetwork:
    model = made(kind)
    images, _ = digits(32)
    with torch.no_grad():
        for _ in range(20):  # running statistics of batch norms
            model.train()(*(images for _ in range(inputs)))
    try:
        return capture(model.eval(), *(images[:2] for _ in range(inputs)), strict=strict)
    except AmcError as error:
        raise DoesNotApply(f"the network of this check cannot be captured here: {error}") from error


def _captured(kind: Callable[[], nn.Module], inputs: int, *, strict: bool = True) -> ReconstructedNetwork:
    return _original(kind, inputs, strict).clone()
