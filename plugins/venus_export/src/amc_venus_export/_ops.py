"""The ops of a file against their handlers: versions, parameters, tensors, inputs, and the memory that running would take.

All of it happens on the meta device, where tensors have shapes and no data: a file that asks for
terabytes costs nothing to refuse.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from amc_plugins.document import Document, Node, map_tree, refs_in, to_plain, tree_leaves
from amc_plugins.exporting import AmcError, UnsupportedOpError
from amc_plugins.graph import TORCH_DTYPES, ReconstructedNetwork, Step, handler_for, rebuild, tensors_in, walk
from amc_venus_export._errors import VnModelError

if TYPE_CHECKING:
    from amc_plugins.handlers import LayerHandler
    from amc_venus_export._limits import Limits

__all__ = ["build", "check_ops"]

_PARAM_CODES = {"missing": "PARAM_MISSING", "extra_forbidden": "PARAM_UNKNOWN"}
_TYPE_ERRORS = ("_type", "_parsing", "_size", "_from_float", "_attribute", "is_instance_of", "union_tag_invalid")
"""Ends of pydantic's error types that say "not this type at all"; the others are about the value."""


def check_ops(document: Document, base_size: tuple[int, int] | None, limits: Limits) -> None:
    """Check every node against the handler of its op, then the shapes and the memory of a run with one sample.

    Raises:
        VnModelError: see the codes of ops.
    """
    with torch.device("meta"), torch.no_grad():
        specs = {spec.name: torch.empty(spec.shape, dtype=TORCH_DTYPES[spec.dtype]) for spec in document.tensors}
        layers: dict[str, nn.Module] = {}
        for i, node in enumerate(document.nodes):
            where = f"document.nodes[{i}]"
            if node.layer not in layers:
                layers[node.layer] = _layer(node, specs, where)
            _check_arity(node, layers[node.layer], where)
        inputs = _inputs(document, base_size)
        if inputs is not None:
            _check_run(ReconstructedNetwork(document, layers).eval(), inputs, limits)


def build(document: Document, tensors: Mapping[str, Tensor]) -> ReconstructedNetwork:
    """The network of a checked document. Raises `VnModelError` when a handler refuses the tensors' values."""
    try:
        return rebuild(document, tensors)
    except Exception as error:  # a handler may raise anything
        raise _refused("SLOT_MISMATCH", error, "document.nodes") from error


def _layer(node: Node, specs: Mapping[str, Tensor], where: str) -> nn.Module:
    try:
        handler = handler_for(node.op)
    except AmcError as error:
        raise VnModelError("OP_UNKNOWN", f"node `{node.name}`: {error}", where, hint=error.hint) from error
    known = handler.spec.op_version
    if node.op_version > known:
        message = f"node `{node.name}` needs version {node.op_version} of `{node.op}`, the installed handler has {known}"
        raise VnModelError("OP_VERSION", message, where, hint="upgrade the distribution that provides it")
    params = _params(handler, node, where)
    slots = {slot: specs[name] for slot, name in node.tensors.items()}
    try:
        return handler.build(params, slots)
    except UnsupportedOpError as error:
        raise VnModelError("OP_UNKNOWN", f"node `{node.name}`: {error}", where, hint=error.hint) from error
    except (AmcError, LookupError) as error:
        raise _refused("SLOT_MISMATCH", error, where, node) from error
    except Exception as error:  # a handler may raise anything
        raise _refused("PARAM_RANGE", error, where, node) from error


def _params(handler: LayerHandler, node: Node, where: str) -> Any:
    try:
        params = handler.Params.model_validate(node.params)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if len(first["loc"]) == 1 and first["type"] in _PARAM_CODES:
            code = _PARAM_CODES[first["type"]]
        else:  # what is inside of a reference is no parameter
            code = "PARAM_TYPE" if first["type"].endswith(_TYPE_ERRORS) or "Ref" in first["loc"] else "PARAM_RANGE"
        path = ".".join(str(part) for part in first["loc"])
        raise VnModelError(code, f"node `{node.name}` ({node.op}): {first['msg']}", f"{where}.params.{path[:80]}") from error
    except Exception as error:  # a validator of a third party
        raise _refused("PARAM_RANGE", error, where, node) from error
    for name, given in node.params.items():
        if not _same_type(to_plain(given), to_plain(getattr(params, name, given))):
            message = f"node `{node.name}` ({node.op}): {str(given)[:80]} has the wrong type"
            raise VnModelError("PARAM_TYPE", message, f"{where}.params.{name[:80]}")
    return params


def _same_type(given: Any, taken: Any) -> bool:
    """Whether pydantic took a value as it is: `true` is no 1, and `"2"` no 2. An integer may stand for a float."""
    if isinstance(given, list) and isinstance(taken, list):
        return all(_same_type(a, b) for a, b in zip(given, taken, strict=False))
    if isinstance(given, dict) or isinstance(taken, dict):
        return bool(given == taken)  # an object that is a reference, but not as documents spell it, is none
    if isinstance(given, list) or isinstance(taken, list):
        return True
    return type(given) is type(taken) or (type(given) is int and type(taken) is float)


def _check_arity(node: Node, module: nn.Module, where: str) -> None:
    symbolic = {name: 0 for name, value in node.params.items() if any(True for _ in refs_in(value))}
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # a forward written in C has none
        return
    try:
        signature.bind(*node.inputs, **symbolic)
    except TypeError as error:
        given = f"{len(node.inputs)} inputs and the computed parameters {sorted(symbolic)}"
        raise VnModelError("OP_ARITY", f"node `{node.name}` ({node.op}) with {given}: {error}", where) from error


def _inputs(document: Document, base_size: tuple[int, int] | None) -> tuple[Any, ...] | None:
    """One sample on the meta device, or None when an open dimension other than the batch has no size here."""
    made: dict[str, Tensor] = {}
    for spec in document.inputs:
        shape = list(spec.shape)
        if shape and shape[0] is None:
            shape[0] = 1
        if base_size is not None and len(shape) == 4:
            shape[2:] = [given if given is not None else size for given, size in zip(shape[2:], base_size, strict=True)]
        sizes = [size for size in shape if size is not None]
        if len(sizes) != len(shape):
            return None
        try:
            made[spec.name] = torch.empty(sizes, dtype=TORCH_DTYPES[spec.dtype], device="meta")
        except RuntimeError as error:
            raise VnModelError("SHAPE_OVERFLOW", f"input `{spec.name}` of shape {sizes}: {error}", "document.inputs") from error
    return tuple(map_tree(tree, made.__getitem__) for tree in document.signature)


def _check_run(network: ReconstructedNetwork, inputs: tuple[Any, ...], limits: Limits) -> None:
    """Run without data. An op that the meta device cannot run ends the derivation; what follows it is not checked."""
    document = network.graph
    last = {name: i for i, node in enumerate(document.nodes) for name in (*node.inputs, *node.outputs)}
    for name in tree_leaves(document.outputs):
        last[name] = len(document.nodes)
    alive: dict[str, int] = {}
    total = 0

    def add(name: str, value: Any, where: str) -> int:
        if isinstance(value, Tensor):
            alive[name] = value.numel() * value.element_size()
        elif type(value) is bool or not isinstance(value, int) or not -(2**63) <= value < 2**63:
            raise VnModelError("SHAPE_RULE", f"`{name}` is neither a tensor nor an integer of 64 bits", where)
        if (now := total + alive.get(name, 0)) > limits.activations:
            message = f"`{name}` brings the values alive to {now} bytes, the limit is {limits.activations}"
            raise VnModelError("ACTIVATIONS_TOO_BIG", message, where, hint="if you trust it: Limits(activations=...)")
        return now

    given = iter(tensors_in(inputs))
    for spec in document.inputs:
        total = add(spec.name, next(given), "document.inputs")
    index = 0
    steps = walk(network, inputs, run=_without_data)
    while True:
        try:
            step = next(steps, None)
        except Exception as error:  # whatever an op says to shapes that do not fit
            if isinstance(error, NotImplementedError) and "meta" in str(error).lower():
                return
            raise _refused("SHAPE_RULE", error, f"document.nodes[{index}]", document.nodes[index]) from error
        if step is None:
            return
        for name, value in zip(step.node.outputs, step.outputs, strict=True):
            total = add(name, value, f"document.nodes[{index}]")
        for name in {*step.node.inputs, *step.node.outputs}:
            if last[name] == index:
                total -= alive.pop(name, 0)
        index += 1


def _without_data(step: Step) -> Any:
    """Run a node whose inputs are tensors, whose computed parameters are integers and whose outputs are as many as it says."""
    if not all(isinstance(one, Tensor) for one in step.inputs):
        raise TypeError("an input is no tensor")
    if tensors_in(step.params):
        raise TypeError("a computed parameter is no integer")
    made = step.module(*step.inputs, **step.params)
    if isinstance(made, tuple | list) != (len(step.node.outputs) > 1):
        raise TypeError("it makes another number of values than the node has outputs")
    return made


def _refused(code: str, error: Exception, where: str, node: Node | None = None) -> VnModelError:
    what = f"node `{node.name}` ({node.op}): " if node is not None else ""
    reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
    return VnModelError(code, f"{what}{reason}", where, hint=getattr(error, "hint", None))
