"""Shapes of every value, without computing any: handlers' shape rules, else the layer on the meta device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from amc_plugins.core.describe import typed_params
from amc_plugins.core.intrinsics import INT, OPAQUE, SIZE
from amc_plugins.core.network import ReconstructedNetwork, Step, handler_for, walk
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.handlers import Shape

__all__ = ["on_meta", "run_shapes", "shapes"]


def shapes(network: ReconstructedNetwork, *inputs: Any) -> dict[str, Shape]:
    """The shape of every tensor value, by name.

    Args:
        network: not run on its own device unless it has opaque nodes that the meta device cannot run.
        inputs: tensors of the wanted shapes (their data does not matter); without them the captured shapes with a batch of one.
    """
    given = inputs or network.example_inputs(batch=1)
    try:
        return _walked(network, _meta(given), _by_rule())
    except (RuntimeError, TypeError):
        # A rule says nothing about dtypes, so what runs after it may get another one than it needs: without rules, then.
        return run_shapes(network, *given)


def run_shapes(network: ReconstructedNetwork, *inputs: Any) -> dict[str, Shape]:
    """As `shapes`, from the layers themselves: no handler's rule is believed."""
    try:
        return _walked(on_meta(network), _meta(inputs), None)
    except NotImplementedError:  # an op without a meta kernel, in somebody's opaque node
        training = [(module, module.training) for module in network.modules()]
        try:
            return _walked(network.eval(), inputs, None)
        finally:
            for module, mode in training:
                module.training = mode


def _walked(network: ReconstructedNetwork, inputs: Any, run: Callable[[Step], Any] | None) -> dict[str, Shape]:
    found = {name: tuple(tensor.shape) for name, tensor in zip(network.input_nodes, tensors_in(inputs), strict=True)}
    with torch.no_grad():
        for step in walk(network, inputs, run=run):
            for name, one in zip(step.node.outputs, step.outputs, strict=True):
                if isinstance(one, Tensor):
                    found[name] = tuple(one.shape)
    return found


def _by_rule() -> Callable[[Step], Any]:
    layers: dict[str, nn.Module] = {}

    def run(step: Step) -> Any:
        node = step.node
        if node.op not in (SIZE, INT, OPAQUE) and step.inputs and not step.params:
            known = handler_for(node.op).shapes(typed_params(node), [tuple(one.shape) for one in step.inputs])
            if known is not None:
                dtype = step.inputs[0].dtype
                made = [torch.empty(shape, dtype=dtype, device="meta") for shape in known]
                return made[0] if len(made) == 1 else made
        layer = layers.get(node.layer)
        if layer is None:
            owns = next(step.module.parameters(), next(step.module.buffers(), None)) is not None
            layer = layers[node.layer] = on_meta(step.module) if owns else step.module
        return layer(*step.inputs, **step.params)

    return run


def _meta(inputs: Any) -> Any:
    return map_leaves(inputs, lambda item: item.to("meta") if isinstance(item, Tensor) else item)


def on_meta(module: Any) -> Any:
    """A copy of a module whose tensors have shapes and no data."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = (
            nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        )
    return copy.deepcopy(module, memo).eval()
