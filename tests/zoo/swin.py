"""A Swin stage stack (Liu et al. 2021): shifted windows with their mask, relative position bias, patch merging."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.common import finished, image

OTHER_SIZE: int | None = 48  # windows are padded to, and the mask is made for the size that comes in


class WindowAttention(nn.Module):
    def __init__(self, dim: int, window: int, heads: int, shift: int) -> None:
        super().__init__()
        self.window, self.heads, self.shift = window, heads, shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        coords = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer("relative_position_index", relative[..., 0] * (2 * window - 1) + relative[..., 1])

    def bias(self) -> Tensor:
        area = self.window**2
        table = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        return table.view(area, area, -1).permute(2, 0, 1).contiguous().unsqueeze(0)

    def mask(self, x: Tensor, height: int, width: int) -> Tensor:
        """0 within a region of the shifted image, -100 across regions: (windows, area, area)."""
        regions = x.new_zeros((height, width))
        slices = ((0, -self.window), (-self.window, -self.shift), (-self.shift, None))
        count = 0
        for top, bottom in slices:
            for left, right in slices:
                regions[top:bottom, left:right] = count
                count += 1
        w = self.window
        regions = regions.view(height // w, w, width // w, w).permute(0, 2, 1, 3).reshape(-1, w * w)
        different = regions.unsqueeze(1) - regions.unsqueeze(2)
        return different.masked_fill(different != 0, -100.0).masked_fill(different == 0, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        w = self.window
        bottom, right = (w - height % w) % w, (w - width % w) % w
        x = F.pad(x, (0, 0, 0, right, 0, bottom))
        _, padded_height, padded_width, _ = x.shape
        if self.shift:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        count = (padded_height // w) * (padded_width // w)
        x = x.view(batch, padded_height // w, w, padded_width // w, w, dim)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch * count, w * w, dim)
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = (q * (dim // self.heads) ** -0.5).matmul(k.transpose(-2, -1)) + self.bias()
        if self.shift:
            mask = self.mask(x, padded_height, padded_width)
            scores = scores.view(batch, count, self.heads, w * w, w * w) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, w * w, w * w)
        x = F.softmax(scores, dim=-1).matmul(v).transpose(1, 2).reshape(batch * count, w * w, dim)
        x = self.proj(x)
        x = x.view(batch, padded_height // w, padded_width // w, w, w, dim)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch, padded_height, padded_width, dim)
        if self.shift:
            x = torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width, :].contiguous()


class Block(nn.Module):
    def __init__(self, dim: int, window: int, heads: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads, shift)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width, _ = x.shape[-3:]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        parts = [x[..., 0::2, 0::2, :], x[..., 1::2, 0::2, :], x[..., 0::2, 1::2, :], x[..., 1::2, 1::2, :]]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    def __init__(self, dim: int = 16, window: int = 4, heads: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.norm0 = nn.LayerNorm(dim)
        self.stage1 = nn.Sequential(Block(dim, window, heads, 0), Block(dim, window, heads, window // 2))
        self.merge = PatchMerging(dim)
        self.stage2 = nn.Sequential(Block(2 * dim, window, 2 * heads, 0), Block(2 * dim, window, 2 * heads, window // 2))
        self.norm = nn.LayerNorm(2 * dim)
        self.head = nn.Linear(2 * dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm0(self.patches(x).permute(0, 2, 3, 1))
        x = self.stage2(self.merge(self.stage1(x)))
        x = self.norm(x).permute(0, 3, 1, 2)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build() -> nn.Module:
    return finished(Swin())


def inputs(batch: int, size: int = 32) -> tuple[Tensor, ...]:
    return (image(batch, size, size),)
