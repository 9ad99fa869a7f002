"""Example calls of the sampler layer, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch

from amc_pruning._sampler import PruningSampler

__all__ = ["examples"]


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    return [(PruningSampler(8, [0, 3, 4, 7]), torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0)))]
