"""Residual branches: the sum that the last linear layer of a branch goes into, and what its fit has to make up for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from amc_plugins.core.edit import consumers, producer

if TYPE_CHECKING:
    from amc_plugins.core.document import Node
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["Branch", "branch_of"]

_ADD = "vn.add"
_FLAT = 1e-3


@dataclass(frozen=True)
class Branch:
    """A layer whose response, perhaps after a BN, is added to another value."""

    shortcut: str
    """The other value of the sum."""
    scale: Tensor | None
    """Per channel, what a difference of sums is multiplied with to become one of responses: sigma / gamma of the BN between; 0
    where the BN has switched a channel off."""


def branch_of(network: ReconstructedNetwork, layer: str) -> Branch | None:
    """The branch that ends with `layer`: the only reader of its response is a sum of two, or a BN whose only reader is one.

    Where both sides of a sum end with a linear layer, only the one with more weights makes up for the other.
    """
    found = _sum_after(network, layer)
    if found is None:
        return None
    shortcut, scale = found
    rival = _layer_before(network, shortcut)
    if rival is not None and _weights(network, rival) >= _weights(network, layer):
        return None
    return Branch(shortcut, scale)


def _sum_after(network: ReconstructedNetwork, layer: str) -> tuple[str, Tensor | None] | None:
    value = network.nodes_of(layer)[0].outputs[0]
    reader = _only_reader(network, value)
    scale: Tensor | None = None
    if reader is not None:
        norm = network.layer(reader.layer)
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.running_var is not None:
            slope = (norm.running_var.double() + norm.eps).rsqrt()
            if norm.weight is not None:
                slope = slope * norm.weight.detach().double()
            off = slope.abs() <= _FLAT * slope.abs().max()
            scale = slope.masked_fill(off, 1.0).reciprocal().masked_fill(off, 0.0)
            value = reader.outputs[0]
            reader = _only_reader(network, value)
    if reader is None or reader.op != _ADD or len(reader.inputs) != 2 or reader.params.get("alpha", 1) != 1:
        return None
    others = [name for name in reader.inputs if name != value]
    return (others[0], scale) if others else None


def _only_reader(network: ReconstructedNetwork, value: str) -> Node | None:
    readers = consumers(network, value)
    return readers[0] if len(readers) == 1 else None


def _layer_before(network: ReconstructedNetwork, value: str) -> str | None:
    """The linear layer that makes a value, perhaps through a BN, and feeds nothing else."""
    node = producer(network, value)
    if node is not None and isinstance(network.layer(node.layer), nn.BatchNorm1d | nn.BatchNorm2d):
        node = producer(network, node.inputs[0])
    if node is None or _sum_after(network, node.layer) is None:
        return None
    return node.layer if isinstance(network.layer(node.layer), nn.Conv2d | nn.Linear) else None


def _weights(network: ReconstructedNetwork, layer: str) -> int:
    return sum(one.numel() for one in network.layer(layer).parameters())
