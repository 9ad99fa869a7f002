"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["examples"]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _with_border(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :, 0] = 0.0
    return x


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    x = random(2, 8, 4, 6)
    places = torch.arange(8).remainder(4).reshape(2, 1, 1, 4).expand(2, 8, 4, 4)
    calls: dict[str, list[tuple[Any, ...]]] = {
        "cat": [(lambda a: torch.cat([a, a * 2.0], 1), x), (lambda a, b: torch.cat((a, b), -1), x, x + 1.0)],
        "stack": [(lambda a, b: torch.stack([a, b], 2), x, x + 1.0)],
        "reshape": [(lambda a: a.view(a.shape[0], -1), x), (lambda a: a.reshape(a.shape[0], 2, 4, -1), x)],
        "flatten": [(nn.Flatten(), x), (lambda a: a.flatten(2), x)],
        "unflatten": [(nn.Unflatten(1, (2, 4)), x), (lambda a: a.unflatten(-1, (3, 2)), x)],
        "permute": [(lambda a: a.permute(0, 2, 3, 1), x)],
        "transpose": [(lambda a: a.transpose(1, 2), x), (lambda a: a.mT, x)],
        "squeeze": [(lambda a: a.squeeze(2), x[:, :, :1]), (lambda a: a.squeeze(-1), x[..., :1])],
        "unsqueeze": [(lambda a: a.unsqueeze(1), x), (lambda a: a.unsqueeze(-1), x)],
        "expand": [(lambda a: a.expand(-1, -1, 5, -1), x[:, :, :1])],
        "unbind": [(lambda a: a.unbind(2), x)],
        "repeat": [(lambda a: a.repeat(1, 1, 2, 3), x), (lambda a: a.repeat(1, 2, 1, 1), x)],
        "repeat_interleave": [(lambda a: a.repeat_interleave(2, 1), x), (lambda a: a.repeat_interleave(3, dim=-1), x)],
        "roll": [(lambda a: a.roll(1, 2), x), (lambda a: torch.roll(a, (2, 1), (1, 3)), x)],
        "flip": [(lambda a: a.flip(2), x), (lambda a: a.flip((1, 3)), x)],
        "setitem": [(_with_border, x)],
        "windows": [(lambda a: a.unfold(3, 2, 2), x)],
        "gather": [(torch.gather, x, 3, places), (lambda a: a.gather(3, a.argsort(3)), x)],
        "chunk": [(lambda a: a.chunk(2, 1), x), (lambda a: a.chunk(3, -1), x)],
        "split": [(lambda a: a.split([3, 5], 1), x), (lambda a: torch.split(a, 2, 2), x)],
        "slice": [(lambda a: a[:, 1:6:2], x), (lambda a: a[..., -1], x), (lambda a: a.narrow(1, 2, 4), x)],
    }
    return calls[name]
