"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["examples"]


def image() -> Tensor:
    """(2, 4, 3, 5)."""
    return torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    x = image()
    labels = torch.tensor([[0, 2, 1], [1, 1, 0]])
    calls: dict[str, list[tuple[Any, ...]]] = {
        "full": [
            (lambda a: a + torch.zeros(a.shape), x),
            (lambda a: a * torch.full((a.shape[0], 4, 1, 1), 0.5), x),
            (lambda a: a + torch.ones(1, a.shape[1], 1, 1), x),
        ],
        "full_like": [(lambda a: a + torch.ones_like(a), x), (lambda a: a.new_full((a.shape[0], 2), 2.0), x)],
        "arange": [(lambda a: a + torch.arange(a.shape[3]), x)],
        "linspace": [(lambda a: a * torch.linspace(0.0, 1.0, a.shape[3]), x)],
        "tensor": [(lambda a: a * torch.tensor([a.shape[3], 2.0, 0.5, 1.0, 3.0]), x)],
        "eye": [(lambda a: a + torch.eye(a.shape[2], a.shape[3]), x)],
        "meshgrid": [(lambda a: a + torch.meshgrid(torch.arange(a.shape[2]), torch.arange(a.shape[3]), indexing="ij")[0], x)],
        "tril": [(torch.tril, x), (lambda a: a.tril(1), x)],
        "triu": [(torch.triu, x), (lambda a: a.triu(-1), x)],
        "one_hot": [(lambda a: F.one_hot(a, 4), labels)],
    }
    return calls[name]
