"""Putting fitted weights into a network, with the constant part in a bias or in the batch norm that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from amc_plugins.graph import ReconstructedNetwork, handler_for, set_layer
from amc_plugins.plugin import GraphError
from amc_pruning._problems import following_norm, norm_module

if TYPE_CHECKING:
    from amc_plugins.handlers import LinearMap

__all__ = ["install", "linear_of"]


def linear_of(network: ReconstructedNetwork, layer: str) -> LinearMap:
    """A layer as a linear map. Raises `GraphError` when it is none."""
    found = handler_for(network.nodes_of(layer)[0].op).linear(network.layer(layer))
    if found is None:
        raise GraphError(f"layer `{layer}` is no linear map")
    return found


def install(
    original: ReconstructedNetwork, network: ReconstructedNetwork, layer: str, weight: Tensor, bias: Tensor, rows: Tensor
) -> None:
    """Give a layer of `network` other weights (n', m') and the constant `bias` (n',), n' = len(rows).

    A layer without a bias keeps none if a batch norm follows: its running mean becomes that of `original` at `rows` less the
    constant. Otherwise the layer gets a bias.
    """
    linear = linear_of(network, layer)
    reference = network.layer(layer).get_parameter("weight")
    norm = following_norm(network, layer) if linear.bias is None else None
    kept_bias = None if norm else bias.to(reference)
    module = linear.rebuilt(weight.to(reference), kept_bias)
    for parameter in module.parameters():
        parameter.requires_grad_(reference.requires_grad)
    set_layer(network, layer, module)
    if norm is not None:
        running = norm_module(original, norm).running_mean
        mine = norm_module(network, norm).running_mean
        assert running is not None and mine is not None
        with torch.no_grad():
            mine.copy_(running[rows.to(running.device)].double() - bias.to(running.device).double())
