"""Putting fitted weights into a network, with the constant part in a bias or in the batch norm that follows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from amc_plugins.core.edit import set_layer
from amc_plugins.core.errors import GraphError
from amc_plugins.core.moments import linear_map
from amc_plugins.core.norms import following_norm, norm_module
from amc_plugins.core.plain_layers import contiguous

if TYPE_CHECKING:
    from torch import nn

    from amc_plugins.core.network import ReconstructedNetwork
    from amc_plugins.handlers import LinearMap

__all__ = ["absorb_biases", "install", "linear_at", "settle", "settled", "shift_norm"]


def linear_at(network: ReconstructedNetwork, layer: str) -> LinearMap:
    """A layer as a linear map. Raises `GraphError` when it is none."""
    found = linear_map(network, layer)
    if found is None:
        raise GraphError(f"layer `{layer}` is no linear map")
    return found


def install(network: ReconstructedNetwork, layer: str, weight: Tensor, bias: Tensor) -> None:
    """Give a layer other weights (n, m) and the constant `bias` (n,), as a bias of its own whether it had one or not."""
    reference = network.layer(layer).get_parameter("weight")
    set_layer(network, layer, linear_at(network, layer).rebuilt(weight.to(reference), bias.to(reference)))


def settle(network: ReconstructedNetwork, layer: str, weight: Tensor, constant: Tensor, norm: str | None) -> None:
    """As `install`; a layer without a bias that `norm` follows stays without: the constant goes into the running mean.

    Parameters keep `requires_grad`; a bias that the layer did not have gets that of its weight.
    """
    module, rest = settled(network, layer, weight, constant, norm)
    set_layer(network, layer, module)
    if norm is not None and rest is not None:
        shift_norm(network, norm, rest)


def settled(
    network: ReconstructedNetwork, layer: str, weight: Tensor, constant: Tensor, norm: str | None
) -> tuple[nn.Module, Tensor | None]:
    """The layer that `settle` would put in place, and the constant that is for `norm` (None when the layer has it)."""
    before = network.layer(layer)
    wanted = {name: one.requires_grad for name, one in before._parameters.items() if one is not None}
    reference = before.get_parameter("weight")
    moved = norm is not None and "bias" not in wanted
    module = linear_at(network, layer).rebuilt(weight.to(reference), None if moved else constant.to(reference))
    for name, parameter in module._parameters.items():
        if parameter is not None:
            parameter.requires_grad_(wanted.get(name, wanted["weight"]))
    return contiguous(module), constant if moved else None


def shift_norm(network: ReconstructedNetwork, norm: str, constant: Tensor) -> None:
    """Make up for a constant (n,) that the layer before a batch norm does not add."""
    running = norm_module(network, norm).running_mean
    assert running is not None
    running.copy_(running.double() - constant.detach().double())


def absorb_biases(original: ReconstructedNetwork, network: ReconstructedNetwork, layers: Iterable[str]) -> None:
    """Take biases that the original does not have into the running means of the batch norms that follow, where there are any.

    Parameters get `requires_grad` of the original's; a bias that stays has that of its layer's weight.
    """
    for layer in layers:
        linear, before = linear_at(network, layer), original.layer(layer)
        norm = following_norm(network, layer)
        if linear.bias is not None and linear_at(original, layer).bias is None and norm is not None:
            with torch.no_grad():
                shift_norm(network, norm, linear.bias)
            set_layer(network, layer, linear.rebuilt(linear.weight.detach(), None))
        wanted = {name: one.requires_grad for name, one in before.named_parameters()}
        for name, parameter in network.layer(layer).named_parameters():
            parameter.requires_grad_(wanted.get(name, wanted["weight"]))
