"""`ReconstructedNetwork`: a graph document with its layers, as an ordinary `nn.Module`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from amc_plugins.core.document import Document, InputSpec, Node, Ref, Tree, map_tree, tree_leaves
from amc_plugins.core.errors import DocumentError, GraphError, SettingsError, nearest
from amc_plugins.core.intrinsics import HANDLERS
from amc_plugins.handlers import LayerHandler

__all__ = [
    "DTYPES",
    "TORCH_DTYPES",
    "ReconstructedNetwork",
    "Step",
    "handler_for",
    "layer_key",
    "walk",
]

DTYPES: dict[torch.dtype, str] = {
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float64: "f64",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.bool: "bool",
}
TORCH_DTYPES = {name: dtype for dtype, name in DTYPES.items()}
"""The names of dtypes in documents, and what torch calls them."""
_MODULE_DICT_NAMES = frozenset(dir(nn.ModuleDict()))


def layer_key(name: str) -> str:
    """The ModuleDict key of a layer name: injective, without dots, never a name that ModuleDict has itself."""
    key = name.replace("/", "//").replace(".", "/")
    return key + "/" if key in _MODULE_DICT_NAMES else key


def handler_for(op: str) -> LayerHandler:
    """The handler of an op id. Raises `UnsupportedOpError` naming the distribution to install when there is none."""
    own = HANDLERS.get(op)
    if own is not None:
        return own
    from amc_plugins.core.registry import registry

    return registry().handler_for_op(op)


@dataclass(frozen=True)
class _Instruction:
    """One node of the compiled schedule; values are slots of a list."""

    key: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    symbolic: tuple[tuple[str, Any], ...]
    """Parameters that depend on int values, with an `_At` in place of each."""
    dead: tuple[int, ...]
    """Slots that nothing needs afterwards."""


@dataclass(frozen=True)
class _At:
    slot: int


class ReconstructedNetwork(nn.Module):
    """A network that needs no code of its author: `graph` says what runs, `layers` holds the modules.

    Args:
        graph: the document; `params` of its nodes are those of the layers.
        layers: modules by layer name (`layer1.0.conv1`).

    Raises:
        DocumentError: a node's layer is missing.
    """

    def __init__(self, graph: Document, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        for name in dict.fromkeys(node.layer for node in graph.nodes):
            if name not in layers:
                raise DocumentError(f"layer `{name}` has no module")
            self.layers[layer_key(name)] = layers[name]
        self.recompile()

    # --- running ---

    def recompile(self) -> None:
        """Rebuild the schedule after the document changed; `amc_plugins.graph`'s edits call it."""
        slots: dict[str, int] = {}
        for spec in self.graph.inputs:
            slots[spec.name] = len(slots)
        last: dict[int, int] = {}
        instructions: list[_Instruction] = []
        for index, node in enumerate(self.graph.nodes):
            inputs = tuple(slots[name] for name in node.inputs)
            symbolic = tuple((key, _locate(value, slots)) for key, value in node.params.items() if _is_symbolic(value))
            for slot in (*inputs, *(slots[name] for name in node.symbols)):
                last[slot] = index
            for name in node.outputs:
                slots[name] = len(slots)
                last[slots[name]] = index
            outputs = tuple(slots[name] for name in node.outputs)
            instructions.append(_Instruction(layer_key(node.layer), inputs, outputs, symbolic, ()))
        kept = {slots[name] for name in tree_leaves(self.graph.outputs)}
        for slot, index in last.items():
            if slot not in kept:
                one = instructions[index]
                instructions[index] = _Instruction(one.key, one.inputs, one.outputs, one.symbolic, (*one.dead, slot))
        self._schedule = tuple(instructions)
        self._slots = slots
        self._signature = tuple(self.graph.signature)
        self._outputs = self.graph.outputs

    def forward(self, *inputs: Any) -> Any:
        """Run the graph. Takes what the captured network took by position; returns the same structure."""
        if type(inputs) is tuple and len(inputs) != len(self._signature):  # torch.fx hands in a proxy, which has no length
            raise TypeError(f"this network takes {len(self._signature)} inputs, given were {len(inputs)}")
        values: list[Any] = [None] * len(self._slots)
        for index, tree in enumerate(self._signature):
            self._bind(tree, inputs[index], values)
        layers = self.layers
        for one in self._schedule:
            arguments = [values[slot] for slot in one.inputs]
            if one.symbolic:
                result = layers[one.key](*arguments, **{name: _resolve(value, values) for name, value in one.symbolic})
            else:
                result = layers[one.key](*arguments)
            if len(one.outputs) == 1:
                values[one.outputs[0]] = result
            else:
                for index, slot in enumerate(one.outputs):
                    values[slot] = result[index]
            for slot in one.dead:
                values[slot] = None
        return map_tree(self._outputs, lambda name: values[self._slots[name]])

    def _bind(self, tree: Tree, given: Any, values: list[Any]) -> None:
        if isinstance(tree, str):
            values[self._slots[tree]] = given
        elif isinstance(tree, dict) and "const" not in tree:
            ((kind, body),) = tree.items()
            for key, item in body.items() if kind == "dict" else enumerate(body):
                self._bind(item, given[key], values)

    # --- looking ---

    def layer(self, name: str) -> nn.Module:
        """The module of a layer. Raises `GraphError` with the nearest names when there is none."""
        key = layer_key(name)
        if key not in self.layers:
            raise GraphError(f"there is no layer `{name}`{nearest(name, self.layer_names)}")
        return self.layers[key]

    @property
    def layer_names(self) -> list[str]:
        """Layer names in the order they first run."""
        return list(dict.fromkeys(node.layer for node in self.graph.nodes))

    def node(self, name: str) -> Node:
        """The node of that name. Raises `GraphError` when there is none."""
        for node in self.graph.nodes:
            if node.name == name:
                return node
        raise GraphError(f"there is no node `{name}`{nearest(name, [node.name for node in self.graph.nodes])}")

    def nodes_of(self, layer: str) -> list[Node]:
        """The nodes that call a layer, in running order; several when the user's network calls it more than once."""
        nodes = [node for node in self.graph.nodes if node.layer == layer]
        if not nodes:
            raise GraphError(f"there is no layer `{layer}`{nearest(layer, self.layer_names)}")
        return nodes

    @property
    def input_nodes(self) -> dict[str, InputSpec]:
        """The inputs by name (the source system's view)."""
        return {spec.name: spec for spec in self.graph.inputs}

    @property
    def layer_nodes(self) -> dict[str, Node]:
        """The nodes by name, in running order (the source system's view)."""
        return {node.name: node for node in self.graph.nodes}

    def example_inputs(self, batch: int = 1) -> tuple[Any, ...]:
        """Zeros of the recorded input shapes, in the structure that `forward` takes; open dimensions become `batch`.

        They are on the network's device; floating inputs have the dtype that its parameters have now.
        """
        owned = chain(self.parameters(), self.buffers())
        reference = next((one for one in owned if one.is_floating_point()), torch.zeros(0))
        made = {}
        for spec in self.graph.inputs:
            recorded = TORCH_DTYPES[spec.dtype]
            dtype = reference.dtype if recorded.is_floating_point else recorded
            shape = [batch if dim is None else dim for dim in spec.shape]
            made[spec.name] = torch.zeros(shape, dtype=dtype, device=reference.device)
        return tuple(map_tree(tree, made.__getitem__) for tree in self.graph.signature)

    def clone(self) -> ReconstructedNetwork:
        """A deep copy."""
        return copy.deepcopy(self)

    # --- the source system's file methods ---

    def save(self, pkl: str | os.PathLike[str]) -> None:
        """Write a `.pkl` that `amc.load` and the `pkl` exporter read."""
        self._export("pkl", pkl)

    def save_to_json(self, file: str | os.PathLike[str]) -> None:
        """Write the readable `.json`, tensors included."""
        self._export("json", file)

    def save_to_vnmodel(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        pkl: str | os.PathLike[str] | None = None,
        model_base_size_hw: tuple[int, int] | None = None,
        model_id: int = 0,
    ) -> None:
        """Write a `.vnmodel`. The source page names the path `pkl=`; both names work, exactly one must be given."""
        chosen = path if path is not None else pkl
        if chosen is None or (path is not None and pkl is not None):
            raise SettingsError("save_to_vnmodel needs one path: `path` or the source page's `pkl`")
        settings: dict[str, Any] = {"model_id": model_id}
        if model_base_size_hw is not None:
            settings["model_base_size_hw"] = tuple(model_base_size_hw)
        self._export("vnmodel", chosen, **settings)

    def _export(self, exporter: str, path: str | os.PathLike[str], **settings: Any) -> None:
        from amc_plugins.core.engine import export

        export(self, exporter, path, **settings)


def _is_symbolic(value: Any) -> bool:
    if isinstance(value, Ref):
        return True
    if isinstance(value, list | tuple):
        return any(_is_symbolic(item) for item in value)
    return isinstance(value, dict) and any(_is_symbolic(item) for item in value.values())


def _locate(value: Any, slots: Mapping[str, int]) -> Any:
    if isinstance(value, Ref):
        return _At(slots[value.name])
    if isinstance(value, list | tuple):
        return [_locate(item, slots) for item in value]
    if isinstance(value, dict):
        return {key: _locate(item, slots) for key, item in value.items()}
    return value


def _resolve(value: Any, values: list[Any]) -> Any:
    if isinstance(value, _At):
        return values[value.slot]
    if isinstance(value, list):
        return [_resolve(item, values) for item in value]
    if isinstance(value, dict):
        return {key: _resolve(item, values) for key, item in value.items()}
    return value


# --- node by node ---


@dataclass
class Step:
    """One node being run by `walk`. `params` holds the resolved symbolic parameters only."""

    node: Node
    module: nn.Module
    inputs: list[Any]
    params: dict[str, Any]
    outputs: list[Any]


def walk(
    network: ReconstructedNetwork,
    inputs: Sequence[Any],
    around: Callable[[Step], None] | None = None,
    run: Callable[[Step], Any] | None = None,
) -> Iterator[Step]:
    """Run a network node by node. Yields each node after it ran, with its inputs and outputs.

    `around(step)` is called before a node runs (`outputs` empty: it may replace `inputs`). Whoever consumes a step
    may replace its `outputs` before asking for the next one. Values that nothing needs any more are freed.
    `run(step)` computes in place of the module.
    """
    values: list[Any] = [None] * len(network._slots)
    for tree, given in zip(network._signature, inputs, strict=True):
        network._bind(tree, given, values)
    layers = network.layers
    for node, one in zip(network.graph.nodes, network._schedule, strict=True):
        symbolic = {name: _resolve(value, values) for name, value in one.symbolic} if one.symbolic else {}
        step = Step(node, layers[one.key], [values[slot] for slot in one.inputs], symbolic, [])
        if around is not None:
            around(step)
        result = step.module(*step.inputs, **step.params) if run is None else run(step)
        step.outputs = [result] if len(one.outputs) == 1 else [result[index] for index in range(len(one.outputs))]
        yield step
        for slot, value in zip(one.outputs, step.outputs, strict=True):
            values[slot] = value
        for slot in one.dead:
            values[slot] = None
