"""Removing channels: every layer that holds a piece of them is replaced by what its handler keeps."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amc_plugins.core.channels import BATCH, ChannelMap, varies
from amc_plugins.core.describe import plain_params
from amc_plugins.core.document import Document, Node, Ref, tree_leaves
from amc_plugins.core.errors import GraphError, PluginError
from amc_plugins.core.intrinsics import INT, INT_OPS, INTS, OPAQUE, REQUIRE, SIZE
from amc_plugins.core.network import ReconstructedNetwork, handler_for
from amc_plugins.core.shapes import run_shapes
from amc_plugins.handlers import Kept, Shape

_EMPTY = frozenset(nn.Module().__dict__)
"""What every module has: its tensors, children, hooks and mode."""

__all__ = ["keep_layer", "kept_of", "kept_values", "shrink"]


def shrink(
    channels: ChannelMap, removed: Tensor, *, verify: bool = True, instead: Mapping[str, nn.Module] | None = None
) -> ReconstructedNetwork:
    """A new network without the channels `removed` (ids of `channels`).

    `instead` has layers that are the new network's as they are, in place of what their handlers would keep.

    `verify` derives the shapes of the result and compares them with what was expected. A search's inner step may leave it
    out: a wrong size still fails when the network runs, only later and with torch's words.

    Raises:
        GraphError: a channel is pinned (the message has the reasons), a group would lose all its channels, or an op
            cannot express the removal.
        PluginError: a handler's `keep` gave a layer of the wrong size.
    """
    kept = kept_values(channels, removed)
    network = channels.network
    instead = instead or {}
    layers: dict[str, nn.Module] = {}
    remade = set(instead)
    memo: dict[int, object] = {}  # one for all, so that layers that share a tensor share its copy
    static, changing = _counts(channels, kept)
    by_layer: dict[str, list[Node]] = {}
    for node in network.graph.nodes:
        by_layer.setdefault(node.layer, []).append(node)
    for layer, nodes in by_layer.items():
        module = network.layer(layer)
        if layer in instead:
            layers[layer] = instead[layer].train(module.training)
            continue
        literal = _with_literals(module, nodes[0], static if any(_affected(node, kept, changing) for node in nodes) else {})
        changed = [keep_layer(literal, node, kept) for node in nodes if _touched(node, kept)]
        smaller = changed[0] if changed else literal
        layers[layer] = _copied(module, memo) if smaller is module else smaller
        if smaller is not module:
            remade.add(layer)
    graph = network.graph.copied()
    # what the original asked about counts of channels that are others now is answered: it went the recorded way
    graph.nodes = [node for node in graph.nodes if node.op != REQUIRE or not changing.intersection(node.symbols)]
    for node in graph.nodes:
        if node.layer in remade and node.op not in (*INTS, OPAQUE):
            node.params = plain_params(handler_for(node.op), layers[node.layer])
    _drop_unused_ints(graph)
    shrunk = ReconstructedNetwork(graph, layers)
    shrunk.training = network.training
    if verify:
        _check(shrunk, kept)
    return shrunk


def _counts(channels: ChannelMap, kept: dict[str, Kept]) -> tuple[dict[str, int], set[str]]:
    """Int values that say how many channels there are, with what they said before the removal; and those of them that would
    say another number now.
    """
    static: dict[str, int] = {}
    changing: set[str] = set()
    for node in channels.network.graph.nodes:
        if node.op == SIZE:
            (value,), dim = node.inputs, node.params["dim"]
            if varies(channels.values[value], dim):  # else no channels, but the batch or the size of an image
                static[node.name] = channels.shapes[value][dim]
                if kept[value].restricts(dim):
                    changing.add(node.name)
        elif node.op == INT and all(name in static for name in node.symbols):
            operands = [static[one.name] if isinstance(one, Ref) else one for one in node.params["operands"]]
            static[node.name] = INT_OPS[node.params["fn"]](*operands)
            if changing.intersection(node.symbols):
                changing.add(node.name)
    return static, changing


def _affected(node: Node, kept: dict[str, Kept], changing: set[str]) -> bool:
    return _touched(node, kept) or bool(changing and changing.intersection(node.symbols))


def _with_literals(module: nn.Module, node: Node, counts: dict[str, int]) -> nn.Module:
    """The layer with the numbers in place of computed counts of channels, which `keep` can then make smaller where they
    are sizes, and which stay what they were where the network computes with them.
    """
    if not counts or node.op in INTS or not counts.keys() & set(node.symbols):
        return module
    handler = handler_for(node.op)
    params = {name: _substituted(value, counts) for name, value in plain_params(handler, module).items()}
    return handler.build(handler.Params(**params), handler.tensors(module)).train(module.training)


def _substituted(value: object, counts: dict[str, int]) -> object:
    if isinstance(value, Ref):
        return counts.get(value.name, value)
    if isinstance(value, list | tuple):
        return [_substituted(one, counts) for one in value]
    return value


def _drop_unused_ints(graph: Document) -> None:
    if not any(node.op in (SIZE, INT) for node in graph.nodes):
        return
    needed = set(tree_leaves(graph.outputs))
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op not in (SIZE, INT) or needed.intersection(node.outputs):
            nodes.append(node)
            needed.update(node.inputs, node.symbols)
    graph.nodes = nodes[::-1]


def kept_values(channels: ChannelMap, removed: Tensor) -> dict[str, Kept]:
    """What stays of every tensor value. Raises `GraphError` as `shrink` does."""
    size = len(channels._group_index)
    stays = torch.ones(size, dtype=torch.bool)
    stays[removed] = False
    for group in channels.groups:
        gone = group.ids[~stays[group.ids]]
        if len(gone) and group.pinned:
            raise GraphError(f"channels of `{group.name}` cannot be removed: {'; '.join(group.pinned)}")
        if len(gone) == len(group.ids):
            raise GraphError(f"all {len(gone)} channels of `{group.name}` would be removed; at least one must stay")
    found: dict[str, Kept] = {}
    known: dict[tuple[object, ...], Kept] = {}  # what an activation or a batch norm passes on has the very ids of its input
    for value, ids in channels.values.items():
        key = (ids.data_ptr(), ids.shape, ids.stride(), channels.shapes[value])
        if key not in known:
            known[key] = kept_of(value, ids, channels.shapes[value], stays)
        found[value] = known[key]
    return found


def kept_of(value: str, ids: Tensor, shape: Shape, stays: Tensor) -> Kept:
    """What stays of one value with the (compacted) channel ids `ids`, given which ids stay.

    Raises:
        GraphError: what goes is not whole slices of the value, or everything goes.
    """
    mask = stays[ids]
    if bool(mask.all()):
        return Kept(shape, {})
    indices: dict[int, Tensor] = {}
    product = torch.ones_like(mask)
    for axis in range(mask.dim()):
        others = [other for other in range(mask.dim()) if other != axis]
        on_axis = mask.amax(dim=others) if others else mask
        if mask.shape[axis] > 1 and not bool(on_axis.all()):
            indices[axis] = on_axis.nonzero().flatten()
            laid = [1] * mask.dim()
            laid[axis] = -1
            product = product & on_axis.reshape(laid)
    if not torch.equal(product, mask) or any(len(index) == 0 for index in indices.values()):
        raise GraphError(
            f"the channels chosen cannot be cut out of `{value}` {shape}: they are not whole slices of it, or all of it",
            hint="its op's handler should tie them: `ids.straight` in `channels`",
        )
    return Kept(shape, indices)


def _touched(node: Node, kept: dict[str, Kept]) -> bool:
    return any(name in kept and kept[name].indices for name in (*node.inputs, *node.outputs))


def _copied(module: nn.Module, memo: dict[int, object]) -> nn.Module:
    """A deep copy; quickly for what holds no tensor and nothing that can change, such as an activation."""
    own = {key: value for key, value in module.__dict__.items() if key not in _EMPTY}
    if any(module.__dict__[key] for key in _EMPTY if key != "training") or not all(_fixed(one) for one in own.values()):
        return copy.deepcopy(module, memo)
    made = type(module).__new__(type(module))
    nn.Module.__init__(made)
    made.__dict__.update(own, training=module.training)
    memo[id(module)] = made
    return made


def _fixed(value: object) -> bool:
    return all(map(_fixed, value)) if isinstance(value, tuple) else value is None or isinstance(value, bool | int | float | str)


def keep_layer(module: nn.Module, node: Node, kept: dict[str, Kept]) -> nn.Module:
    """What the handler keeps of a node's layer, with mode, dtype, device and `requires_grad` of the original."""
    if node.op in (*INTS, OPAQUE):
        return module
    handler = handler_for(node.op)
    inputs = [kept[name] for name in node.inputs if name in kept]
    smaller = handler.keep(module, inputs, [kept[name] for name in node.outputs])
    if smaller is module:
        return module
    old = module.state_dict(keep_vars=True)
    owned = {tensor.untyped_storage().data_ptr() for tensor in old.values() if tensor.device.type != "meta"}
    for name, tensor in smaller.state_dict(keep_vars=True).items():
        if name not in old:
            raise PluginError(f"the handler of `{node.op}` kept a tensor `{name}` that `{node.layer}` does not have")
        if tensor.dtype != old[name].dtype or tensor.device != old[name].device:
            tensor.data = tensor.data.to(device=old[name].device, dtype=old[name].dtype)
        if tensor.device.type != "meta" and tensor.untyped_storage().data_ptr() in owned:
            tensor.data = tensor.data.clone()  # the smaller network must not share memory with the one it came from
        if isinstance(tensor, nn.Parameter):
            tensor.requires_grad_(old[name].requires_grad)
    return smaller.train(module.training)


def _check(network: ReconstructedNetwork, kept: dict[str, Kept]) -> None:
    try:
        found = run_shapes(network, *network.example_inputs(batch=BATCH))
    except (RuntimeError, ValueError) as error:
        raise PluginError(
            f"the smaller network does not run: {error}", hint="one of its ops' handlers keeps the wrong sizes"
        ) from error
    makers = {name: node for node in network.graph.nodes for name in node.outputs}
    for value, one in kept.items():
        if found[value] != one.new_shape:
            node = makers[value]
            raise PluginError(
                f"after the removal `{node.name}` ({node.op}) gives shape {found[value]}, expected was {one.new_shape}",
                hint=f"`keep` of the handler of `{node.op}` must resize what it owns",
            )
