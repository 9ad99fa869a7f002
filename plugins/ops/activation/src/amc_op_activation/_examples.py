"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["examples"]


def image() -> Tensor:
    """(2, 8, 4, 6), positive and negative."""
    return torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0))


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    x = image()
    special: dict[str, list[tuple[Any, ...]]] = {
        "relu": [(nn.ReLU(), x), (F.relu, x), (lambda one: F.relu(one + 0.0, inplace=True), x)],
        "leaky_relu": [(nn.LeakyReLU(0.2), x), (lambda one: F.leaky_relu(one, 0.1), x)],
        "elu": [(nn.ELU(0.5), x)],
        "gelu": [(nn.GELU(), x), (nn.GELU("tanh"), x)],
        "hardtanh": [(nn.Hardtanh(-0.5, 2.0), x)],
        "softplus": [(nn.Softplus(2.0, 10.0), x)],
        "celu": [(nn.CELU(0.7), x)],
        "hardshrink": [(nn.Hardshrink(0.3), x)],
        "softshrink": [(nn.Softshrink(0.3), x)],
        "relu6": [(nn.ReLU6(), x), (F.relu6, x)],
        "glu": [(nn.GLU(1), x), (F.glu, x)],
        "prelu": [(nn.PReLU(), x), (nn.PReLU(8), x), (nn.PReLU(8), x[:, :, 0, 0])],
        "softmax": [(nn.Softmax(1), x), (lambda one: one.softmax(-1), x)],
        "log_softmax": [(nn.LogSoftmax(1), x), (lambda one: F.log_softmax(one, 2), x)],
        "dropout": [(nn.Dropout(0.3), x), (nn.Dropout2d(0.3), x), (lambda one: F.dropout(one, 0.2, training=False), x)],
        "identity": [(nn.Identity(), x), (lambda one: one.contiguous(), x), (torch.clone, x)],
        "tanh": [(nn.Tanh(), x), (torch.tanh, x)],
        "sigmoid": [(nn.Sigmoid(), x), (lambda one: one.sigmoid(), x)],
        "logsigmoid": [(nn.LogSigmoid(), x)],
        "silu": [(nn.SiLU(), x), (F.silu, x)],
        "mish": [(nn.Mish(), x)],
        "selu": [(nn.SELU(), x)],
    }
    if name in special:
        return special[name]
    module = {"hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "softsign": nn.Softsign, "tanhshrink": nn.Tanhshrink}[
        name
    ]
    return [(module(), x)]
