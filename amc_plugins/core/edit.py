"""Graph editing: replace, insert and remove layers, in place. Every edit re-derives shapes and re-checks the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from amc_plugins.core.describe import plain_params
from amc_plugins.core.document import Document, Node, refs_in
from amc_plugins.core.errors import GraphError
from amc_plugins.core.network import ReconstructedNetwork, handler_for, layer_key
from amc_plugins.core.plain_layers import contiguous
from amc_plugins.core.shapes import shapes

if TYPE_CHECKING:
    from torch import nn

__all__ = ["consumers", "insert_after", "insert_before", "producer", "remove", "replace", "replace_all", "set_layer"]


def producer(network: ReconstructedNetwork, value: str) -> Node | None:
    """The node that makes a value; None for an input of the network."""
    for node in network.graph.nodes:
        if value in node.outputs:
            return node
    return None


def consumers(network: ReconstructedNetwork, value: str) -> list[Node]:
    """The nodes that take a value as an input or in a parameter, in running order."""
    return [node for node in network.graph.nodes if value in node.inputs or value in node.symbols]


def set_layer(network: ReconstructedNetwork, layer: str, module: nn.Module) -> None:
    """Put another module of the same op in a layer's place; its nodes' parameters follow."""
    nodes = network.nodes_of(layer)
    params = plain_params(handler_for(nodes[0].op), module)
    symbolic = any(node.symbols for node in nodes) or any(refs_in(params))
    network.layers[layer_key(layer)] = contiguous(module).train(network.layer(layer).training)
    for node in nodes:
        node.params = dict(params)
    if symbolic:  # else the schedule is what it was
        network.recompile()


def replace(network: ReconstructedNetwork, layer: str, replacements: Sequence[tuple[str, nn.Module]]) -> list[str]:
    """Put a chain of layers, given as (op id, module), in the place of one with one input and one output.

    Returns the new layers' names: the old name for a single replacement, else `<layer>.0`, `<layer>.1`, ..., each with the old
    layer as its origin.

    Raises:
        GraphError: the layer is unknown, is called more than once, or has several inputs or outputs; or shapes no longer fit.
    """
    return replace_all(network, {layer: replacements})[layer]


def replace_all(network: ReconstructedNetwork, chains: Mapping[str, Sequence[tuple[str, nn.Module]]]) -> dict[str, list[str]]:
    """Several `replace` at once, with one check of the whole: for compressors that rewrite most of a network."""
    if not chains:
        return {}
    before = shapes(network)
    named = {layer: _replaced(network, layer, replacements) for layer, replacements in chains.items()}
    outputs = [network.nodes_of(names[-1])[0].outputs[0] for names in named.values()]
    _recheck(network)
    after = shapes(network)
    for value in outputs:
        if after[value] != before[value]:
            raise GraphError(f"the replacement makes `{value}` of shape {after[value]}, the layer made {before[value]}")
    return named


def _replaced(network: ReconstructedNetwork, layer: str, replacements: Sequence[tuple[str, nn.Module]]) -> list[str]:
    """One chain put in, nothing checked or recompiled yet."""
    nodes = network.nodes_of(layer)
    if len(nodes) > 1 or len(nodes[0].inputs) != 1 or len(nodes[0].outputs) != 1:
        raise GraphError(f"`{layer}` cannot be replaced by a chain: it needs one call, one input and one output")
    if not replacements:
        raise GraphError(f"`{layer}` cannot be replaced by nothing; use `remove`")
    old = nodes[0]
    names = [layer] if len(replacements) == 1 else [f"{layer}.{index}" for index in range(len(replacements))]
    if taken := [name for name in names if name != layer and name in network.layer_names]:
        raise GraphError(f"there is a layer `{taken[0]}` already")
    training = network.layer(layer).training
    chain: list[Node] = []
    value = old.inputs[0]
    for index, (name, (op, module)) in enumerate(zip(names, replacements, strict=True)):
        last = index == len(replacements) - 1
        made = old.outputs[0] if last else _free_value(network, name)
        chain.append(_node(name, op, module, value, made, old.source, old.origin or layer))
        value = made
    place = network.graph.nodes.index(old)
    network.graph.nodes[place : place + 1] = chain
    del network.layers[layer_key(layer)]
    for name, (_, module) in zip(names, replacements, strict=True):
        network.layers[layer_key(name)] = contiguous(module).train(training)
    return names


def insert_before(network: ReconstructedNetwork, node: str, index: int, op: str, module: nn.Module, name: str) -> str:
    """Put a layer with one input and one output before input `index` of a node, for that node alone. Returns the
    layer's name.
    """
    target = network.node(node)
    if not 0 <= index < len(target.inputs):
        raise GraphError(f"`{node}` has {len(target.inputs)} inputs, asked was input {index}")
    value = _free_value(network, name)
    new = _node(name, op, module, target.inputs[index], value, target.source, None)
    _insert(network, network.graph.nodes.index(target), new, module)
    target.inputs[index] = value
    _recheck(network)
    return name


def insert_after(network: ReconstructedNetwork, value: str, op: str, module: nn.Module, name: str) -> str:
    """Put a layer with one input and one output on a value, for everything that reads it. Returns the layer's name."""
    readers = consumers(network, value)
    made = producer(network, value)
    fresh = _free_value(network, name)
    new = _node(name, op, module, value, fresh, made.source if made else None, None)
    _insert(network, network.graph.nodes.index(made) + 1 if made else 0, new, module)
    for node in readers:
        node.inputs = [fresh if one == value else one for one in node.inputs]
    network.graph.outputs = _renamed(network.graph.outputs, value, fresh)
    _recheck(network)
    return name


def remove(network: ReconstructedNetwork, layer: str) -> None:
    """Take out a layer with one input and one output; its readers read its input instead.

    Raises:
        GraphError: the layer is unknown or has several inputs or outputs.
    """
    for node in network.nodes_of(layer):
        if len(node.inputs) != 1 or len(node.outputs) != 1:
            raise GraphError(f"`{layer}` cannot be taken out: it needs one input and one output")
        for reader in consumers(network, node.outputs[0]):
            reader.inputs = [node.inputs[0] if one == node.outputs[0] else one for one in reader.inputs]
        network.graph.outputs = _renamed(network.graph.outputs, node.outputs[0], node.inputs[0])
        network.graph.nodes.remove(node)
    del network.layers[layer_key(layer)]
    _recheck(network)


def _node(name: str, op: str, module: nn.Module, given: str, made: str, source: str | None, origin: str | None) -> Node:
    handler = handler_for(op)
    params = plain_params(handler, module)
    node = Node(name=name, layer=name, op=op, inputs=[given], outputs=[made], params=params, source=source, origin=origin)
    node.op_version = handler.spec.op_version
    return node


def _insert(network: ReconstructedNetwork, place: int, node: Node, module: nn.Module) -> None:
    if node.layer in network.layer_names:
        raise GraphError(f"there is a layer `{node.layer}` already")
    network.graph.nodes.insert(place, node)
    network.layers[layer_key(node.layer)] = contiguous(module).train(network.training)


def _free_value(network: ReconstructedNetwork, name: str) -> str:
    used = set(network._slots)
    value, count = name, 1
    while value in used:
        value, count = f"{name}#{count}", count + 1
    return value


def _renamed(tree: object, old: str, new: str) -> object:
    if isinstance(tree, str):
        return new if tree == old else tree
    if isinstance(tree, dict) and "const" not in tree:
        ((kind, body),) = tree.items()
        if kind == "dict":
            return {kind: {key: _renamed(item, old, new) for key, item in body.items()}}
        return {kind: [_renamed(item, old, new) for item in body]}
    return tree


def _recheck(network: ReconstructedNetwork) -> None:
    network.graph = Document.from_plain(network.graph.model_dump(mode="json"))
    network.recompile()
    try:
        shapes(network)
    except (RuntimeError, ValueError, TypeError) as error:
        raise GraphError(f"the edited graph does not run: {error}") from error
