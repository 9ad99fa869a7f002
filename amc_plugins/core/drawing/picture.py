"""What a picture shows, free of coordinates: one card per node, input and output, and the wires between them.

Sizes and integer arithmetic are folded into the parameters that use them, as expressions (`cat_0.size(1) // 2`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amc_plugins.core.document import Node, Ref, Tree, tree_leaves
from amc_plugins.core.drawing.changes import Change, changes_of, removed_layers
from amc_plugins.core.drawing.words import count, shape_text, share
from amc_plugins.core.intrinsics import CONSTANT, INT, INTS, OPAQUE, SIZE
from amc_plugins.core.macs import Profile, Row, profile

if TYPE_CHECKING:
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["Card", "Picture", "Wire", "picture_of"]

Shape = tuple[int, ...]
_SIGNS = {"add": "+", "sub": "−", "mul": "·", "floordiv": "//", "mod": "%"}
_LONGEST = 160


@dataclass(frozen=True)
class Card:
    """One box. `kind` is a role of `theme.KINDS`, `change` what became of it, when the picture compares."""

    name: str
    kind: str
    type: str
    shapes: tuple[Shape, ...]
    macs: int | None
    parameters: int
    op: str = ""
    source: str | None = None
    details: tuple[tuple[str, str], ...] = ()
    change: Change | None = None


@dataclass(frozen=True)
class Wire:
    """A value: the card that makes it, and each use: the card and the input. `faint`: only the size is used."""

    value: str
    start: int
    port: int
    ends: tuple[tuple[int, int], ...]
    faint: bool = False


@dataclass(frozen=True)
class Picture:
    """Cards are in running order; wires in the order of the values."""

    title: str
    facts: str
    cards: tuple[Card, ...]
    wires: tuple[Wire, ...]
    compared: bool = False
    removed: tuple[str, ...] = field(default=())
    """Layers of the original that nothing stands for any more."""


def picture_of(
    network: ReconstructedNetwork, *, before: ReconstructedNetwork | None = None, title: str, inputs: Sequence[Any] = ()
) -> Picture:
    """The picture of a network, compared with what it was made from when `before` is given."""
    now = profile(network, *inputs)
    then = None if before is None else profile(before, *inputs)
    changes: Mapping[str, Change] = {}
    removed: tuple[str, ...] = ()
    if before is not None and then is not None:
        changes = changes_of(before.graph, then, network.graph, now)
        removed = removed_layers(before.graph, network.graph)
    document = network.graph
    outputs = tree_leaves(document.outputs)
    by_name = {row.name: row for row in now.rows}
    formulas = _formulas(document.nodes)
    shown = [node for node in document.nodes if node.op not in INTS or any(name in outputs for name in node.outputs)]
    shapes = {
        name: shape
        for node in document.nodes
        for name, shape in zip(node.outputs, by_name[node.name].output_shapes, strict=False)
    }

    cards: list[Card] = []
    for spec, tensor in zip(document.inputs, _input_shapes(network, inputs), strict=True):
        dims = ["any" if size is None else str(size) for size in spec.shape]
        details = (("type", spec.dtype), ("recorded shape", "×".join(dims) or "scalar"))
        cards.append(Card(spec.name, "io", "input", (tensor,), 0, 0, details=details))
    cards.extend(_card(node, by_name[node.name], formulas, changes.get(node.name)) for node in shown)
    for path, value in _output_paths(document.outputs, "output"):
        found = shapes.get(value)
        cards.append(Card(path, "io", "output", () if found is None else (found,), 0, 0, details=(("value", value),)))
    return Picture(title, _facts(now, then), tuple(cards), _wires(network, cards, shown), then is not None, removed)


def _input_shapes(network: ReconstructedNetwork, inputs: Sequence[Any]) -> list[Shape]:
    from amc_plugins.core.structure import tensors_in

    return [tuple(one.shape) for one in tensors_in(tuple(inputs) or network.example_inputs(batch=1))]


def _kind(node: Node, row: Row) -> str:
    if node.op == OPAQUE or row.macs is None:
        return "opaque"
    if node.op == CONSTANT:
        return "constant"
    if row.macs:
        return "compute"
    if row.parameters:
        return "weights"
    return "merge" if len(set(node.inputs)) > 1 else "plain"


def _card(node: Node, row: Row, formulas: Mapping[str, str], change: Change | None) -> Card:
    details = [(name, _shortened(_value_text(value, formulas))) for name, value in node.params.items()]
    if node.layer != node.name:
        details.insert(0, ("layer", f"{node.layer} (called again)"))
    if node.origin:
        details.append(("made from", node.origin))
    return Card(
        name=node.name,
        kind=_kind(node, row),
        type=row.type.rpartition(".")[2] if node.op == OPAQUE else row.type,
        shapes=row.output_shapes,
        macs=row.macs,
        parameters=row.parameters,
        op=row.type if node.op == OPAQUE else node.op,
        source=node.source,
        details=tuple(details),
        change=change,
    )


def _facts(now: Profile, then: Profile | None) -> str:
    def compared(name: str, before: int | None, after: int) -> str:
        if before is None:
            return f"{count(after)} {name}"
        return f"{count(before)} → {count(after)} {name} ({share(before, after)})"

    layers = len({row.layer for row in now.rows if row.op not in INTS})
    macs = compared("MACs", None if then is None else then.total_macs, now.total_macs)
    if now.unknown:
        macs += f", {len(now.unknown)} unknown"
    parameters = compared("parameters", None if then is None else then.total_parameters, now.total_parameters)
    return f"{layers} layers · {macs} · {parameters}"


def _wires(network: ReconstructedNetwork, cards: Sequence[Card], shown: Sequence[Node]) -> tuple[Wire, ...]:
    document = network.graph
    first, last = len(document.inputs), len(document.inputs) + len(shown)
    made: dict[str, tuple[int, int]] = {spec.name: (index, 0) for index, spec in enumerate(document.inputs)}
    ends: dict[str, list[tuple[int, int]]] = {}
    for index, node in enumerate(shown, first):
        for port, name in enumerate(node.outputs):
            made[name] = index, port
        for port, name in enumerate(node.inputs):
            ends.setdefault(name, []).append((index, port))
    for index, (_, value) in enumerate(_output_paths(document.outputs, "output"), last):
        ends.setdefault(value, []).append((index, 0))
    wires = [Wire(name, *made[name], tuple(ends[name])) for name in made if name in ends]
    return tuple(wires) + tuple(_faint(document.nodes, shown, first, made, ends))


def _faint(
    nodes: Sequence[Node],
    shown: Sequence[Node],
    first: int,
    made: Mapping[str, tuple[int, int]],
    ends: Mapping[str, list[tuple[int, int]]],
) -> list[Wire]:
    """Wires of values that only give their size to somebody: without them their cards would hang in the air."""
    reached: dict[str, set[str]] = {}  # int value -> the tensors it comes from
    for node in nodes:
        if node.op in INTS:
            found = {name for name in node.inputs if name not in reached}
            for name in (*node.inputs, *node.symbols):
                found |= reached.get(name, set())
            reached.update(dict.fromkeys(node.outputs, found))
    wires: dict[str, list[tuple[int, int]]] = {}
    for index, node in enumerate(shown, first):
        for name in node.symbols:
            for tensor in sorted(reached.get(name, ())):
                if tensor in made and tensor not in ends and (index, 0) not in wires.setdefault(tensor, []):
                    wires[tensor].append((index, 0))
    return [Wire(name, *made[name], tuple(found), faint=True) for name, found in wires.items() if found]


def _output_paths(tree: Tree, path: str) -> list[tuple[str, str]]:
    """(`output.more[0]`, value name) for each leaf."""
    if isinstance(tree, str):
        return [(path, tree)]
    if not isinstance(tree, dict) or "const" in tree:
        return []
    ((kind, body),) = tree.items()
    if kind == "dict":
        return [leaf for key, item in body.items() for leaf in _output_paths(item, f"{path}.{key}")]
    return [leaf for index, item in enumerate(body) for leaf in _output_paths(item, f"{path}[{index}]")]


def _formulas(nodes: Sequence[Node]) -> dict[str, str]:
    """The expression of each int value, in terms of tensors' sizes."""
    found: dict[str, str] = {}
    for node in nodes:
        if node.op == SIZE:
            found[node.outputs[0]] = f"{node.inputs[0]}.size({node.params['dim']})"
        elif node.op == INT:
            operands = [_value_text(one, found) for one in node.params["operands"]]
            wrapped = [f"({one})" if " " in one and not one.startswith("(") else one for one in operands]
            sign = _SIGNS.get(node.params["fn"])
            found[node.outputs[0]] = _shortened(f" {sign} ".join(wrapped) if sign else f"−{wrapped[0]}")
    return found


def _value_text(value: Any, formulas: Mapping[str, str]) -> str:
    if isinstance(value, Ref):
        return formulas.get(value.name, value.name)
    if isinstance(value, dict):
        if set(value) == {"$value"}:
            return formulas.get(value["$value"], str(value["$value"]))
        return "{" + ", ".join(f"{key}: {_value_text(item, formulas)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value_text(item, formulas) for item in value) + "]"
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def shapes_line(shapes: Sequence[Shape]) -> str:
    """The output shapes as one line: equal ones counted (`2 × 1×8×8×8`)."""
    if not shapes:
        return ""
    if len(set(shapes)) == 1:
        return shape_text(shapes[0]) if len(shapes) == 1 else f"{len(shapes)} of {shape_text(shapes[0])}"
    return ", ".join(shape_text(one) for one in shapes)
