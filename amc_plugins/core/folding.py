"""Batch norms folded into the layers in front of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from amc_plugins.core.edit import remove, set_layer
from amc_plugins.core.moments import linear_map
from amc_plugins.core.norms import following_norm, norm_gain, norm_module

if TYPE_CHECKING:
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["fold_norms"]


def fold_norms(network: ReconstructedNetwork) -> ReconstructedNetwork:
    """A copy whose batch norms are part of the convolutions and linear layers that they alone read.

    In eval mode it computes what `network` does, up to rounding: `W' = g W` and `b' = beta + g (b - mean)` with
    `g = gamma / sqrt(var + eps)`, in float64. Batch norms without running statistics, behind something else,
    or behind a layer that others read too stay.
    """
    folded = network.clone()
    linears = [layer for layer in folded.layer_names if linear_map(folded, layer) is not None]
    for layer in linears:
        linear, norm = linear_map(folded, layer), following_norm(folded, layer)
        if linear is None or norm is None:
            continue
        module = norm_module(folded, norm)
        assert module.running_mean is not None
        gain = norm_gain(folded, norm)
        bias = torch.zeros_like(gain) if linear.bias is None else linear.bias.detach().double()
        shift = torch.zeros_like(gain) if module.bias is None else module.bias.detach().double()
        weight = linear.weight.detach().double() * gain[:, None]
        constant = shift + gain * (bias - module.running_mean.double())
        trainable = folded.layer(layer).get_parameter("weight").requires_grad
        made = linear.rebuilt(weight.to(linear.weight.dtype), constant.to(linear.weight.dtype))
        set_layer(folded, layer, made.requires_grad_(trainable))
        remove(folded, norm)
    return folded
