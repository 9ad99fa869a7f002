"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["examples"]


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    words = torch.tensor([[3, 0, 8], [1, 1, 7]])
    calls: dict[str, list[tuple[Any, ...]]] = {
        "linear": [(nn.Linear(6, 8), x), (nn.Linear(6, 4, bias=False), x[:, None].expand(2, 5, 6).contiguous())],
        "embedding": [(nn.Embedding(9, 6), words), (nn.Embedding(9, 6, padding_idx=0), words)],
    }
    return calls[name]
