"""What a candidate's network is made of, node by node: ops and sizes, without weights. Read off assembled networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from amc_plugins.core.describe import plain_params
from amc_plugins.core.document import Node, Ref, tree_leaves
from amc_plugins.core.drawing.matching import made_from
from amc_plugins.core.intrinsics import INTS, OPAQUE
from amc_plugins.core.network import DTYPES, ReconstructedNetwork, handler_for, walk
from amc_plugins.core.shapes import on_meta
from amc_plugins.core.structure import map_leaves, tensors_in

if TYPE_CHECKING:
    from amc_plugins.handlers import Shape

__all__ = ["Frame", "NodeOutline", "Piece", "masked", "nodes_of", "pieces_of", "unmasked"]

_LONG = 8
"""Of a list of more ints than that only the length is kept: the positions that a gather reads, not a size."""

Piece = tuple[Any, tuple[int, ...]]
"""The nodes that stand for one node of the original, as a structure with every int taken out, and those ints in order."""


@dataclass(frozen=True)
class NodeOutline:
    """One node: everything that its cost may depend on."""

    name: str
    """That of the original's node that it stands for."""
    op: str
    params: dict[str, Any]
    call: dict[str, Any]
    """Parameters that the network computes, as they came out."""
    inputs: tuple[tuple[str, Shape, str], ...]
    """Per tensor that it reads: where from (a value's name, or `#k` for the k-th one made inside the piece), shape, dtype."""
    slots: dict[str, tuple[Shape, str]]
    """Shape and dtype of the tensors that its handler names."""
    parameters: tuple[Shape, ...]
    """Of its parameters; one that several layers share is the first one's."""
    outputs: tuple[tuple[str, Shape, int, int], ...]
    """Per tensor that it makes: name as for inputs, shape, bytes, and the input whose memory it shares, or -1."""


@dataclass(frozen=True)
class Frame:
    """What all candidates of a plan share: the original's nodes in running order, its inputs and its outputs."""

    nodes: tuple[str, ...]
    layers: Mapping[str, str]
    """Node by layer, of layers that run once."""
    inputs: Mapping[str, int]
    """Bytes of the tensors that the network takes."""
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, network: ReconstructedNetwork, batch: int) -> Frame:
        calls: dict[str, list[str]] = {}
        for node in network.graph.nodes:
            calls.setdefault(node.layer, []).append(node.name)
        given = zip(network.input_nodes, tensors_in(network.example_inputs(batch=batch)), strict=True)
        return cls(
            tuple(node.name for node in network.graph.nodes),
            {layer: names[0] for layer, names in calls.items() if len(names) == 1},
            {name: tensor.nbytes for name, tensor in given},
            tuple(tree_leaves(network.graph.outputs)),
        )


def pieces_of(network: ReconstructedNetwork, frame: Frame, batch: int) -> dict[str, Piece]:
    """The pieces of a candidate's network by the original's nodes, for so many samples at once.

    A node belongs to the node of its own name, to the layer that it was made from, or, inserted, to the next one.
    """
    found: dict[str, list[NodeOutline]] = {name: [] for name in frame.nodes}
    waiting: list[_Row] = []
    counted: set[int] = set()
    real = {name: network.layer(name) for name in network.layer_names}
    key = frame.nodes[-1] if frame.nodes else ""
    for row in _rows(network, batch):
        waiting.append(row)
        own = _owner(row.node, frame)
        if own is not None:
            key = own
            found[key] += _outlines(waiting, real, counted, key, len(found[key]))
            waiting = []
    found[key] += _outlines(waiting, real, counted, key, len(found[key]))
    return {name: _packed(nodes) for name, nodes in found.items()}


def _owner(node: Node, frame: Frame) -> str | None:
    if node.name in frame.nodes:
        return node.name
    layer = made_from(node.layer, frame.layers, node.origin)
    return None if layer is None else frame.layers[layer]


@dataclass(frozen=True)
class _Row:
    """What was seen of one node."""

    node: Node
    call: dict[str, Any]
    inputs: list[tuple[str, Shape, str]]
    outputs: list[tuple[str, Shape, int, int]]


def _rows(network: ReconstructedNetwork, batch: int) -> list[_Row]:
    given = network.example_inputs(batch=batch)
    meta = map_leaves(given, lambda item: item.to("meta") if isinstance(item, Tensor) else item)
    try:
        return list(_seen(on_meta(network), meta))
    except NotImplementedError:  # an op without a meta kernel, in somebody's opaque node
        return list(_seen(network.clone().eval(), given))  # a run in train mode would change statistics


def _seen(network: ReconstructedNetwork, inputs: Any) -> Iterator[_Row]:
    with torch.no_grad():
        for step in walk(network, inputs):
            node = step.node
            read = [(name, one) for name, one in zip(node.inputs, step.inputs, strict=True) if isinstance(one, Tensor)]
            made = [(name, one) for name, one in zip(node.outputs, step.outputs, strict=True) if isinstance(one, Tensor)]
            memory = [_memory(one) for _, one in read]
            yield _Row(
                node,
                dict(step.params),
                [(name, tuple(one.shape), DTYPES[one.dtype]) for name, one in read],
                [
                    (
                        name,
                        tuple(one.shape),
                        one.untyped_storage().nbytes(),
                        memory.index(_memory(one)) if _memory(one) in memory else -1,
                    )
                    for name, one in made
                ],
            )


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _outlines(
    rows: Sequence[_Row], layers: Mapping[str, nn.Module], counted: set[int], key: str, count: int
) -> list[NodeOutline]:
    """The nodes of one piece; values that do not leave it are named by their place."""
    inside: dict[str, str] = {}
    found = []
    for number, row in enumerate(rows):
        node, module = row.node, layers[row.node.layer]
        if number < len(rows) - 1:
            inside.update({name: f"#{count + number}.{place}" for place, name in enumerate(node.outputs)})
        weights = [one for one in module.parameters() if id(one) not in counted]
        counted.update(map(id, weights))
        params, slots = _described(node, module)
        found.append(
            NodeOutline(
                key,
                node.op,
                params,
                row.call,
                tuple((inside.get(name, name), shape, dtype) for name, shape, dtype in row.inputs),
                slots,
                tuple(tuple(one.shape) for one in weights),
                tuple((inside.get(name, name), shape, size, shared) for name, shape, size, shared in row.outputs),
            )
        )
    return found


def _described(node: Node, module: nn.Module) -> tuple[dict[str, Any], dict[str, tuple[Shape, str]]]:
    if node.op in INTS:
        return dict(node.params), {}
    if node.op == OPAQUE:
        return {}, {}
    handler = handler_for(node.op)
    slots = {slot: (tuple(one.shape), DTYPES[one.dtype]) for slot, one in handler.tensors(module).items()}
    return plain_params(handler, module), slots


# --- ints and what is around them ---


def _packed(nodes: Iterable[NodeOutline]) -> Piece:
    ints: list[int] = []
    structure = tuple(masked(vars(node), ints) for node in nodes)
    return structure, tuple(ints)


def nodes_of(piece: Piece) -> list[NodeOutline]:
    """The nodes of a piece."""
    structure, ints = piece
    left = iter(ints)
    return [NodeOutline(**unmasked(one, left)) for one in structure]


def masked(value: Any, ints: list[int]) -> Any:
    """A hashable stand-in for plain data, whose ints go to `ints`."""
    if isinstance(value, bool):
        return "is", value
    if isinstance(value, int):
        ints.append(value)
        return ("int",)
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        if kind == "list" and len(value) > _LONG and all(type(one) is int for one in value):
            ints.append(len(value))
            return ("range",)
        return kind, tuple(masked(one, ints) for one in value)
    if isinstance(value, Mapping):
        return "dict", tuple((name, masked(one, ints)) for name, one in value.items())
    if isinstance(value, Ref):
        return "ref", value.name
    return "is", value if value.__hash__ is not None else repr(value)


def unmasked(structure: Any, ints: Iterator[int]) -> Any:
    """The data of a stand-in, with other ints perhaps; a long list becomes the numbers from 0 on."""
    kind, *rest = structure
    if kind == "int":
        return next(ints)
    if kind == "range":
        return list(range(next(ints)))
    if kind == "ref":
        return Ref(rest[0])
    if kind == "is":
        return rest[0]
    if kind == "dict":
        return {name: unmasked(one, ints) for name, one in rest[0]}
    return (list if kind == "list" else tuple)(unmasked(one, ints) for one in rest[0])
