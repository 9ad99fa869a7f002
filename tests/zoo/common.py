"""What the networks of the zoo share: deterministic weights, batch norms that are not trivial, and images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Norm = nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm


def finished(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode, all parameters and statistics drawn from `seed` at a scale that keeps activations near one."""
    generator = torch.Generator().manual_seed(seed)

    def spread(tensor: Tensor, low: float, high: float) -> None:
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            fan_in = max(1, parameter[0].numel())
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * math.sqrt(1.5 / fan_in))
        elif name.endswith("bias"):
            spread(parameter, -0.3, 0.3)
        else:
            spread(parameter, 0.5, 1.5)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            spread(module.running_mean, -0.5, 0.5)
            spread(module.running_var, 0.5, 1.5)
    return model.eval()


def image(batch: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """(N, C, H, W), standard normal."""
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def conv_bn(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution with padding that keeps the size, then batch norm."""
    pad = (kernel[0] // 2, kernel[1] // 2) if isinstance(kernel, tuple) else kernel // 2
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False), nn.BatchNorm2d(outputs))
