"""The layers: ordinary modules on (N, C, H, W), which know nothing of amc-plugins."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """A trained scale per channel (Touvron et al., "Going deeper with image transformers", ICCV 2021)."""

    def __init__(self, channels: int, initial: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma[:, None, None]


class ResponseNorm(nn.Module):
    """Global response normalisation (Woo et al., "ConvNeXt V2", CVPR 2023, equations 1 to 3 and algorithm 1).

    Args:
        channels: C.
        width: what the sum of the channels' norms is divided by for their mean; C, unless channels have been removed since.
    """

    def __init__(self, channels: int, width: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.width = channels if width is None else width
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        norms = x.square().sum((2, 3), keepdim=True).sqrt()
        relative = norms / (norms.sum(1, keepdim=True) / self.width + 1e-6)
        return self.gamma[:, None, None] * (x * relative) + self.beta[:, None, None] + x


class StarReLU(nn.Module):
    """scale * relu(x) ** 2 + bias (Yu et al., "MetaFormer baselines for vision", TPAMI 2024, section 4.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.8944))
        self.bias = nn.Parameter(torch.tensor(-0.4472))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.relu().square() + self.bias


class DropPath(nn.Module):
    """Whole samples dropped in training mode (Huang et al., "Deep networks with stochastic depth", ECCV 2016)."""

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x * 1.0
        keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.p
        return x * keep / (1.0 - self.p)
