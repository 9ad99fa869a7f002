"""The tensor table and the topology: what must hold between the parts of a graph whose fields are all of the right type."""

from __future__ import annotations

import json
from typing import Any

from amc_plugins.document import refs_in, tree_leaves
from amc_venus_export._errors import VnModelError
from amc_venus_export._header import ALIGNMENT, round_up
from amc_venus_export._schema import Root, nbytes_of
from amc_venus_export._storage import Storage

__all__ = ["check_table", "check_topology"]


def check_table(root: Root, data_bytes: int) -> None:
    """Tensors fill the data in order: each starts at the next multiple of 64, none overlaps, the last one ends the data.

    Raises:
        VnModelError: see the codes of the tensor table.
    """
    seen: set[str] = set()
    specs = root.document["tensors"]
    sizes: list[int] = []
    for i, spec in enumerate(specs):
        if spec["name"] in seen:
            raise VnModelError("TENSOR_DUP_NAME", f"two tensors are named `{spec['name']}`", f"document.tensors[{i}]")
        seen.add(spec["name"])
        sizes.append(nbytes_of(spec["shape"], spec["dtype"], f"document.tensors[{i}]"))
    if [spec["name"] for spec in specs] != [place.name for place in root.placements]:
        raise VnModelError("TENSOR_TABLE", "the placements are not those of document.tensors, in its order", "tensors")
    end = 0
    for i, (place, spec) in enumerate(zip(root.placements, specs, strict=True)):
        where = f"tensors[{i}]"
        size = sizes[i] if place.storage is None else _stored_bytes(place.storage, spec, where)
        if place.nbytes != size:
            form = "" if place.storage is None else f" as {place.storage.scheme}"
            message = f"`{place.name}` has {place.nbytes} bytes, {spec['dtype']} {spec['shape']}{form} needs {size}"
            raise VnModelError("TENSOR_NBYTES", message, where)
        if place.offset % ALIGNMENT:
            raise VnModelError("TENSOR_MISALIGNED", f"`{place.name}` starts at {place.offset}", where)
        if place.offset < end:
            raise VnModelError("TENSOR_OVERLAP", f"`{place.name}` starts at {place.offset}, the last one ends at {end}", where)
        if place.offset > round_up(end, ALIGNMENT):
            raise VnModelError("TENSOR_GAP", f"`{place.name}` starts at {place.offset}, the last one ends at {end}", where)
        end = place.offset + place.nbytes
        if end > data_bytes:
            raise VnModelError("TENSOR_RANGE", f"`{place.name}` ends at {end} of {data_bytes}", where)
    if end != data_bytes:
        raise VnModelError("DATA_UNCLAIMED", f"the tensors end at {end}, the data at {data_bytes}", "tensors")
    used = {name for node in root.document["nodes"] for name in node["tensors"].values()}
    if unused := [name for name in seen if name not in used]:
        raise VnModelError("TENSOR_UNUSED", f"no node uses `{min(unused)}`", "document.tensors")


def _stored_bytes(storage: Storage, spec: dict[str, Any], where: str) -> int:
    if spec["dtype"] != "f32":
        raise VnModelError("QUANT_DTYPE", f"`{spec['name']}` is {spec['dtype']} and stored as {storage.scheme}", where)
    if storage.scheme == "int8" and not 0 <= storage.axis < len(spec["shape"]):
        raise VnModelError("QUANT_AXIS", f"axis {storage.axis} of a tensor of shape {spec['shape']}", where)
    return storage.nbytes(spec["shape"])


def check_topology(document: dict[str, Any]) -> None:
    """Names are unique, every value is made once and before it is used, slots name tensors, the outputs exist.

    Raises:
        VnModelError: see the codes of topology.
    """
    inputs = _inputs(document)
    nodes = document["nodes"]
    makers = _makers(nodes, inputs)
    tensors = {spec["name"] for spec in document["tensors"]}
    first: dict[str, dict[str, Any]] = {}
    for i, node in enumerate(nodes):
        where = f"document.nodes[{i}]"
        for name in (*node["inputs"], *refs_in(node["params"])):
            if name in inputs or makers.get(name, i) < i:
                continue
            if name in makers:
                raise VnModelError("CYCLE_OR_ORDER", f"node `{node['name']}` uses `{name}` before it is made", where)
            raise VnModelError("DANGLING_INPUT", f"node `{node['name']}` uses `{name}`, which nothing makes", where)
        for slot, name in node["tensors"].items():
            if name not in tensors:
                message = f"slot `{slot[:80]}` of node `{node['name']}` names `{name}`, which is no tensor"
                raise VnModelError("SLOT_DANGLING", message, where)
        other = first.setdefault(node["layer"], node)
        if other is not node and _layer_of(other) != _layer_of(node):
            raise VnModelError(
                "LAYER_CONFLICT", f"nodes `{other['name']}` and `{node['name']}` share a layer and differ", where
            )
    leaves = tree_leaves(document["outputs"])
    if not leaves:
        raise VnModelError("OUTPUTS_EMPTY", "the network has no outputs", "document.outputs")
    for name in leaves:
        if name not in inputs and name not in makers:
            raise VnModelError("OUTPUT_UNKNOWN", f"nothing makes the output `{name}`", "document.outputs")


def _inputs(document: dict[str, Any]) -> set[str]:
    named = [spec["name"] for spec in document["inputs"]]
    if len(set(named)) != len(named):
        raise VnModelError("VALUE_DUP", "two inputs have one name", "document.inputs")
    declared = [name for tree in document["signature"] for name in tree_leaves(tree)]
    if not named or sorted(declared) != sorted(named):
        raise VnModelError("SIGNATURE", "signature and inputs do not name the same values", "document.signature")
    return set(named)


def _makers(nodes: list[dict[str, Any]], inputs: set[str]) -> dict[str, int]:
    """The index of the node that makes each value."""
    names: set[str] = set()
    makers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        where = f"document.nodes[{i}]"
        if node["name"] in names:
            raise VnModelError("NODE_DUP_NAME", f"two nodes are named `{node['name']}`", where)
        names.add(node["name"])
        if not node["outputs"]:
            raise VnModelError("NODE_NO_OUTPUT", f"node `{node['name']}` makes nothing", where)
        for name in node["outputs"]:
            if name in inputs:
                raise VnModelError("VALUE_SHADOWS_INPUT", f"node `{node['name']}` makes `{name}`, which is an input", where)
            if name in makers:
                raise VnModelError("VALUE_DUP", f"node `{node['name']}` makes `{name}`, which exists already", where)
            makers[name] = i
    return makers


def _layer_of(node: dict[str, Any]) -> str:
    return json.dumps([node["op"], node["op_version"], node["params"], node["tensors"]])  # text: 1, 1.0 and true stay different
