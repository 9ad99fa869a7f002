"""From a network to an ONNX model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from amc_onnx_export._facts import Sizes, facts, input_shapes
from amc_onnx_export._graph import ELEMENT_TYPES, Dim, Graph
from amc_onnx_export._op import Emitter, NotInOnnx, Op, Value
from amc_onnx_export._table import EMITTERS
from amc_plugins.document import Node, Ref, refs_in, to_plain
from amc_plugins.exporting import AmcError, emitter_for
from amc_plugins.graph import ReconstructedNetwork, describe, tensors_of, typed_params

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IR_VERSION", "OPSET", "Foreign", "Written", "build_model", "output_names"]

OPSET = 18
"""The first with `Col2Im`, reductions over computed axes and anti-aliased resizing; ONNX Runtime reads it since 1.14."""
IR_VERSION = 8
MAX_BYTES = 2**31 - 2**20
"""protobuf holds less than 2 GiB; a MiB is left for names and nodes."""
DOMAIN_VERSION = 1
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


@dataclass(frozen=True)
class Foreign:
    """A node that went out in the domain of its op, which no engine knows."""

    op: str
    node: str
    source: str | None
    why: str

    def __str__(self) -> str:
        return f"`{self.op}` ({self.node} at {self.source or 'an unknown line'}): {self.why}"


@dataclass(frozen=True)
class Written:
    """A model, and what to know of it."""

    model: ModelProto
    foreign: list[Foreign]
    """What stock engines cannot run."""
    conditions: list[str]
    """What sizes of inputs must be for the file to compute what the network does, where they are open in it."""


def output_names(tree: Any, path: str = "") -> list[tuple[str, str]]:
    """(name in the file, name of the value) of each output: the path to it, as in `boxes.0`; one alone is `output`."""
    if tree is None:
        return []
    if isinstance(tree, str):
        return [(path or "output", tree)]
    ((kind, body),) = tree.items()
    if kind == "const":
        return []
    items = body.items() if kind == "dict" else enumerate(body)
    at = path or ("" if kind == "dict" else "output")
    return [found for key, item in items for found in output_names(item, f"{at}.{key}" if at else str(key))]


def build_model(network: ReconstructedNetwork, *, batch: int | None = None, image: Sizes = "recorded") -> Written:
    """The ONNX model of a network without opaque nodes.

    Raises:
        AmcError: tensors of 2 GiB or more, or the network does not run at the asked sizes.
    """
    tensors = tensors_of(network)
    total = sum(one.numel() * one.element_size() for one in tensors.values())
    if total >= MAX_BYTES:
        raise AmcError(
            f"the tensors of the network have {total / 2**30:.2f} GiB, an .onnx file holds less than 2",
            hint="export a .vnmodel, which has no such limit; files with data beside them are not written",
        )
    shapes = input_shapes(network.graph.inputs, batch, image)
    writer = _Writer(network, facts(network, shapes), tensors)
    for node in writer.document.nodes:
        writer.write(node)
    return Written(writer.model(shapes), writer.foreign, writer.conditions)


class _Writer:
    def __init__(self, network: ReconstructedNetwork, known: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> None:
        self.document = describe(network)
        self.tensors = tensors
        self.known = known
        self.graph = Graph()
        self.foreign: list[Foreign] = []
        self.conditions: list[str] = []
        self.ints: dict[str, Dim] = {}
        self.words: dict[str, str] = {}
        """The ints as text, for conditions."""
        self.names = {spec.name: self.graph.unique(spec.name) for spec in self.document.inputs}
        self.outputs = [(self.graph.unique(name), value) for name, value in output_names(self.document.outputs)]

    def write(self, node: Node) -> None:
        """Add a node, by its emitter or as a call of its own op."""
        if node.op == "vn.size":
            self.ints[node.outputs[0]] = self._op(node).size(self._value(node.inputs[0]), int(node.params["dim"]))
            self.words[node.outputs[0]] = f"{self.names[node.inputs[0]]}.shape[{node.params['dim']}]"
            return
        if node.op == "vn.require":
            self._require(node)
            return
        if node.op == "vn.int":
            operands = [self._op(node).dim(one) for one in typed_params(node).operands]
            self.ints[node.outputs[0]] = self.graph.integer(node.name, node.params["fn"], *operands)
            said = [self.words[one.name] if isinstance(one, Ref) else str(one) for one in typed_params(node).operands]
            self.words[node.outputs[0]] = f"{node.params['fn']}({', '.join(said)})"
            return
        emitter: Emitter | None = emitter_for(node.op, "onnx") or EMITTERS.get(node.op)
        mark = self.graph.mark()
        why = "there is no emitter for it"
        if emitter is not None:
            try:
                made = emitter(self._op(node))
                self._name_results(node, [made] if isinstance(made, str) else list(made))
                return
            except NotInOnnx as refusal:
                why = str(refusal)
                self.graph.back(mark)
        self.foreign.append(Foreign(node.op, node.name, node.source, why))
        self._name_results(node, self._own_domain(node))

    def _require(self, node: Node) -> None:
        """A condition on sizes. ONNX has no check that stops a run: what depends on open sizes is written down in the file.

        Of literal sizes nothing is left to say: `facts` has run the network with them, so the condition holds.
        """
        self.ints[node.outputs[0]] = 1
        params = typed_params(node)
        if all(isinstance(self._op(node).dim(one), int) for one in params.operands):
            return
        left, right = (self.words[one.name] if isinstance(one, Ref) else str(one) for one in params.operands)
        self.conditions.append(f"{left} {_SIGNS[params.fn]} {right} ({params.where})")

    def _name_results(self, node: Node, made: Sequence[str]) -> None:
        if len(made) > len(node.outputs):  # the network uses the first of them only
            made = made[: len(node.outputs)]
        if len(made) != len(node.outputs):
            raise AmcError(f"the emitter of `{node.op}` gives {len(made)} results, the node has {len(node.outputs)}")
        self.names.update(zip(node.outputs, made, strict=True))

    def _value(self, name: str) -> Value:
        known = self.known[name]
        return Value(self.names[name], known.dtype, known.shape)

    def _op(self, node: Node) -> Op:
        slots = {slot: self.tensors[name] for slot, name in node.tensors.items()}
        inputs = [self._value(name) for name in node.inputs]
        outputs = [self.known[name] for name in node.outputs if name in self.known]
        return Op(self.graph, node, typed_params(node), inputs, outputs, slots, self.ints)

    def _own_domain(self, node: Node) -> list[str]:
        """A node of the op's own namespace: its inputs, its tensors, then the integers that its parameters are computed from.

        Parameters are attributes; those that ONNX has no type for are JSON, with the name of the value in `{"$value": name}`.
        """
        domain, _, kind = node.op.rpartition(".")
        op = self._op(node)
        inputs = [self.names[name] for name in node.inputs]
        inputs += [op.slot(slot) for slot in node.tensors]
        inputs += [self.graph.tensor_of(self.ints[name]) for name in refs_in(node.params)]
        attributes = {name: _attribute(value) for name, value in node.params.items() if value is not None}
        attributes |= {"op_version": node.op_version}
        return self.graph.add(node.name, kind, inputs, len(node.outputs), domain=domain, **attributes)

    def model(self, shapes: Mapping[str, Sequence[int | None]]) -> ModelProto:
        """The finished model, with outputs called by their paths."""
        self._rename_outputs()
        used = self.graph.used_tensors([])
        graph = helper.make_graph(
            self.graph.nodes,
            "amc",
            [self._input(spec.name, shapes) for spec in self.document.inputs],
            [self._output(name, value) for name, value in self.outputs],
            [_stored(name, tensor) for name, tensor in used.items()],
        )
        domains = sorted({node.domain for node in self.graph.nodes if node.domain})
        imports = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, DOMAIN_VERSION) for domain in domains)]
        model = helper.make_model(graph, producer_name="amc-onnx-export", opset_imports=imports, ir_version=IR_VERSION)
        structure = json.dumps(to_plain(self.document.outputs), ensure_ascii=False)
        requires = {"amc.requires": json.dumps(self.conditions, ensure_ascii=False)} if self.conditions else {}
        helper.set_model_props(model, {"amc.outputs": structure, **requires})
        return model

    def _rename_outputs(self) -> None:
        """Give the results their names in the file. What is no node's result alone gets there by an `Identity`."""
        made = {name for node in self.graph.nodes for name in node.output}
        renamed: dict[str, str] = {}
        for name, value in self.outputs:
            if value in self.ints:
                source = self.graph.add(name, "Squeeze", [self.graph.tensor_of(self.ints[value])])[0]
            else:
                source = self.names[value]
            if source in made and source not in renamed:
                renamed[source] = name
            else:
                self.graph.nodes.append(helper.make_node("Identity", [source], [name], self.graph.unique(f"{name}:identity")))
        for node in self.graph.nodes:
            for field in (node.input, node.output):
                for place, name in enumerate(field):
                    if name in renamed:
                        field[place] = renamed[name]

    def _input(self, name: str, shapes: Mapping[str, Sequence[int | None]]) -> ValueInfoProto:
        alike = len({tuple(shape[2:]) for shape in shapes.values() if len(shape) == 4}) == 1
        axes = {0: "batch", 2: "height" if alike else f"{name}_height", 3: "width" if alike else f"{name}_width"}
        shape = [axes.get(axis, f"{name}_{axis}") if size is None else size for axis, size in enumerate(shapes[name])]
        return helper.make_tensor_value_info(self.names[name], ELEMENT_TYPES[self.known[name].dtype], shape)

    def _output(self, name: str, value: str) -> ValueInfoProto:
        if value in self.ints:
            return helper.make_tensor_value_info(name, TensorProto.INT64, [])
        known = self.known[value]
        shape = [f"{name}_{axis}" if size is None else size for axis, size in enumerate(known.shape)]
        return helper.make_tensor_value_info(name, ELEMENT_TYPES[known.dtype], shape)


def _stored(name: str, tensor: Tensor) -> TensorProto:
    """Row-major little-endian bytes."""
    data = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return onnx.TensorProto(data_type=ELEMENT_TYPES[tensor.dtype], dims=list(tensor.shape), name=name, raw_data=data)


def _attribute(value: Any) -> Any:
    """A parameter as ONNX can hold it."""
    plain = to_plain(value)
    if isinstance(plain, bool):
        return int(plain)
    if isinstance(plain, int | float | str):
        return plain
    for kind in (int, float, str):
        if isinstance(plain, list) and plain and all(type(one) is kind for one in plain):
            return plain
    return json.dumps(plain, ensure_ascii=False)
