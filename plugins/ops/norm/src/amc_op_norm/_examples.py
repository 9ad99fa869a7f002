"""Example calls of this distribution's operations, for conformance checks. Imported by nothing else."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["examples"]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _used(norm: nn.Module) -> nn.Module:
    """A batch norm whose statistics and weights are not the trivial ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return norm


def examples(name: str) -> list[tuple[Any, ...]]:
    """Calls of the operation `name`."""
    image, line, volume = random(2, 6, 4, 5), random(2, 6, 7), random(2, 6, 3, 4, 2)
    calls: dict[str, list[tuple[Any, ...]]] = {
        "batchnorm1d": [(_used(nn.BatchNorm1d(6)), line), (_used(nn.BatchNorm1d(6, affine=False)), line[:, :, 0])],
        "batchnorm2d": [(_used(nn.BatchNorm2d(6)), image), (_used(nn.BatchNorm2d(6, eps=1e-3, momentum=None)), image)],
        "batchnorm3d": [(_used(nn.BatchNorm3d(6)), volume)],
        "instance_norm": [(_used(nn.InstanceNorm2d(6, affine=True)), image), (nn.InstanceNorm1d(6), line)],
        "group_norm": [(_used(nn.GroupNorm(3, 6)), image), (lambda x: F.group_norm(x, 2), image)],
        "layer_norm": [(_used(nn.LayerNorm(7)), line), (nn.LayerNorm([4, 5], elementwise_affine=False), image)],
        "rms_norm": [(_used(nn.RMSNorm(7)), line), (lambda x: F.rms_norm(x, (5,)), image)],
        "normalize": [(F.normalize, image), (lambda x: F.normalize(x, p=1.0, dim=-1), line)],
        "local_response_norm": [(nn.LocalResponseNorm(3), image)],
    }
    return calls[name]
