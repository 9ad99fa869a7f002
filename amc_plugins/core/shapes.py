"""Shapes of every value, without computing any: handlers' shape rules, else the layer on the meta device."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from amc_plugins.core.network import ReconstructedNetwork, walk
from amc_plugins.core.structure import map_leaves
from amc_plugins.handlers import Shape

__all__ = ["shapes"]


def shapes(network: ReconstructedNetwork, *inputs: Any) -> dict[str, Shape]:
    """The shape of every tensor value, by name.

    Args:
        network: not run on its own device unless it has opaque nodes that the meta device cannot run.
        inputs: tensors of the wanted shapes (their data does not matter); without them the captured shapes with a batch of one.
    """
    given = inputs or network.example_inputs(batch=1)
    try:
        return _run(on_meta(network), map_leaves(given, lambda item: item.to("meta") if isinstance(item, Tensor) else item))
    except NotImplementedError:  # an op without a meta kernel, in somebody's opaque node
        training = [(module, module.training) for module in network.modules()]
        try:
            return _run(network.eval(), given)
        finally:
            for module, mode in training:
                module.training = mode


def _run(network: ReconstructedNetwork, inputs: Any) -> dict[str, Shape]:
    found = {name: tuple(tensor.shape) for name, tensor in zip(network.input_nodes, _tensors(inputs), strict=True)}
    with torch.no_grad():
        for step in walk(network, inputs):
            found.update(
                {
                    name: tuple(one.shape)
                    for name, one in zip(step.node.outputs, step.outputs, strict=True)
                    if isinstance(one, Tensor)
                }
            )
    return found


def _tensors(inputs: Any) -> list[Tensor]:
    from amc_plugins.core.structure import tensors_in

    return tensors_in(inputs)


def on_meta(module: Any) -> Any:
    """A copy of a module whose tensors have shapes and no data."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = (
            nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        )
    return copy.deepcopy(module, memo).eval()
