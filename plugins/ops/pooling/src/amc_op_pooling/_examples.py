"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["examples"]


def random(*shape: int) -> Tensor:
    """No two entries alike."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 0.1


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    if "pool" in name:
        return _pools(name)
    x = random(2, 6, 4, 5)
    function = getattr(torch, name)
    if name in ("any", "all"):
        return [(lambda one: one * function(one > 0.5, 2, keepdim=True), x), (lambda one: function(one > 0.5), x)]
    if name in ("max", "min"):
        return [(lambda one: function(one, 2)[0], x), (function, x), (function, x, x.flip(3))]
    if name in ("argmax", "argmin"):
        return [(lambda one: function(one, 2), x), (lambda one: one.gather(3, function(one, 3, keepdim=True)), x)]
    if name == "argsort":
        return [(lambda one: function(one, 2), x), (lambda one: one.gather(3, function(one, 3)), x)]
    if name in ("cumsum", "cumprod"):
        return [(lambda one: function(one, 2), x)]
    if name == "sort":
        return [(lambda one: one.sort(-1, descending=True)[0], x)]
    if name == "topk":
        return [(lambda one: one.topk(2, dim=3)[0], x)]
    if name in ("prod", "logsumexp"):
        return [(lambda one: function(one, 2), x), (lambda one: function(one, 3, keepdim=True), x)]
    return [(lambda one: function(one, dim=(2, 3)), x), (lambda one: function(one, dim=-1, keepdim=True), x), (function, x)]


def _pools(name: str) -> list[tuple[Any, ...]]:
    rank = int(name[-2])
    x = random(2, 6, *(9, 8, 7)[:rank])
    kind: Any = getattr(nn, {"max": "MaxPool", "avg": "AvgPool"}.get(name[:3], "Adaptive") + _rest(name))
    if name.startswith("adaptive"):
        return [(kind(1), x), (kind((None, 3, 2)[:rank] if rank > 1 else 3), x), (lambda one: getattr(F, name)(one, 2), x)]
    if name.startswith("max"):
        return [(kind(2), x), (kind(3, 2, 1, ceil_mode=True), x), (lambda one: getattr(F, name)(one, 2, 1), x)]
    return [(kind(2), x), (kind(3, 2, 1, count_include_pad=False), x), (lambda one: getattr(F, name)(one, 2, 1), x)]


def _rest(name: str) -> str:
    """What follows in the name of the class: `2d`, or `AvgPool2d` behind `Adaptive`."""
    if not name.startswith("adaptive"):
        return name[-2:]
    return ("AvgPool" if "avg" in name else "MaxPool") + name[-2:]
