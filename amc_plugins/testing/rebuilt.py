"""Checks that networks survive their document, and small helpers over nested inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from amc_plugins.document import Document, tree_leaves
from amc_plugins.graph import ReconstructedNetwork, Step, describe, rebuild, tensors_of, walk

__all__ = ["assert_rebuilds", "assert_same_outputs", "floats_as", "tensors_of_tree"]


def floats_as(item: Any, dtype: torch.dtype) -> Any:
    """Nested inputs with floating tensors converted."""
    if isinstance(item, Tensor):
        return item.to(dtype) if item.is_floating_point() else item
    if isinstance(item, list | tuple):
        return type(item)(floats_as(one, dtype) for one in item)
    if isinstance(item, dict):
        return {key: floats_as(one, dtype) for key, one in item.items()}
    return item


def tensors_of_tree(
    network: ReconstructedNetwork, inputs: Sequence[Any], around: Callable[[Step], None] | None = None
) -> list[Tensor]:
    """The output tensors in document order, run node by node."""
    wanted = tree_leaves(network.graph.outputs)
    found: dict[str, Any] = {}
    with torch.no_grad():
        for step in walk(network, inputs, around):
            found.update({name: value for name, value in zip(step.node.outputs, step.outputs, strict=True) if name in wanted})
    return [found[name] for name in wanted if isinstance(found.get(name), Tensor)]


def assert_same_outputs(a: ReconstructedNetwork, b: ReconstructedNetwork, *inputs: Any) -> None:
    """Two networks give the same bits in eval mode. Raises AssertionError naming the output."""
    modes = [(module, module.training) for network in (a, b) for module in network.modules()]
    try:
        left, right = tensors_of_tree(a.eval(), inputs), tensors_of_tree(b.eval(), inputs)
    finally:
        for module, training in modes:
            module.training = training
    assert len(left) == len(right), f"{len(left)} and {len(right)} outputs"
    for index, (one, other) in enumerate(zip(left, right, strict=True)):
        assert torch.equal(one, other), f"output {index} differs"


def assert_rebuilds(network: ReconstructedNetwork, *inputs: Any) -> ReconstructedNetwork:
    """A network rebuilt from its JSON document and tensors gives the same bits; returns the rebuilt one."""
    document = describe(network)
    text = document.to_json()
    back = Document.from_json(text)
    assert back.to_json() == text, "the document does not survive JSON"
    again = rebuild(back, tensors_of(network))
    assert_same_outputs(network, again, *inputs)
    assert describe(again).to_json() == text, "the rebuilt network describes itself differently"
    return again
