"""Example calls for the conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from amc_op_convnext.layers import LayerScale, ResponseNorm, StarReLU


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of one op: a module whose numbers are not the initial ones, and its input."""
    generator = torch.Generator().manual_seed(0)
    layers: dict[str, list[nn.Module]] = {
        "layer_scale": [LayerScale(6)],
        "response_norm": [ResponseNorm(6), ResponseNorm(6, width=9)],
        "star_relu": [StarReLU()],
    }
    for layer in layers[name]:
        for parameter in layer.parameters():
            parameter.data.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return [(layer, torch.randn(2, 6, 4, 5, generator=generator)) for layer in layers[name]]
