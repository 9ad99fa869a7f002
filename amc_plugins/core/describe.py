"""From a network to its complete document with tensors, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from amc_plugins.core.document import Document, Node, TensorSpec
from amc_plugins.core.errors import DocumentError
from amc_plugins.core.network import DTYPES, ReconstructedNetwork, handler_for
from amc_plugins.core.structure import tensors_in
from amc_plugins.handlers import LayerHandler

__all__ = [
    "describe",
    "digest_of",
    "document_and_tensors",
    "make_layer",
    "plain_params",
    "rebuild",
    "tensors_of",
    "typed_params",
]


def typed_params(node: Node, handler: LayerHandler | None = None) -> Any:
    """The validated `Params` of a node; `handler` where it is known. Raises `DocumentError` naming the node."""
    handler = handler or handler_for(node.op)
    try:
        return handler.Params(**node.params)
    except ValueError as error:
        raise DocumentError(f"node `{node.name}` ({node.op}): {error}") from error


def plain_params(handler: LayerHandler, module: nn.Module) -> dict[str, Any]:
    """A module's parameters as a document holds them."""
    params = handler.params(module)
    return {**{name: getattr(params, name) for name in type(params).model_fields}, **(params.model_extra or {})}


def describe(network: ReconstructedNetwork) -> Document:
    """The complete document of a network: parameters as the layers have them now, tensor slots and the tensor table.

    A tensor that several layers share is listed once, under the first slot's name.
    """
    return document_and_tensors(network)[0]


def tensors_of(network: ReconstructedNetwork) -> dict[str, Tensor]:
    """The tensors by the names that `describe` gives them, detached, in document order."""
    return _by_name(_layers_of(network).values())


def document_and_tensors(network: ReconstructedNetwork) -> tuple[Document, dict[str, Tensor]]:
    """What `describe` and `tensors_of` give, in the time of one of them: what a file of the network holds."""
    graph, layers = network.graph, _layers_of(network)
    nodes = []
    for node in graph.nodes:  # copied field by field: a deep copy would copy the parameters that are replaced
        layer = layers[node.layer]
        update = {
            "op_version": layer.handler.spec.op_version,
            "inputs": list(node.inputs),
            "outputs": list(node.outputs),
            "params": plain_params(layer.handler, layer.module),
            "tensors": {slot: name for slot, (name, _) in layer.slots.items()},
        }
        nodes.append(node.model_copy(update=update))
    inputs = [
        spec.model_copy(update={"dtype": DTYPES[example.dtype], "shape": list(spec.shape)})
        for spec, example in zip(graph.inputs, tensors_in(network.example_inputs()), strict=True)
    ]
    tensors = _by_name(layers.values())
    specs = [
        TensorSpec(name=name, dtype=DTYPES[tensor.dtype], shape=list(tensor.shape))  # type: ignore[arg-type]
        for name, tensor in tensors.items()
    ]
    fresh = {"inputs": inputs, "nodes": nodes, "tensors": specs, "metadata": dict(graph.metadata)}
    trees = {"signature": deepcopy(graph.signature), "outputs": deepcopy(graph.outputs)}
    return graph.model_copy(update={**fresh, **trees}), tensors


def digest_of(network: nn.Module) -> str:
    """SHA-256 of the names and bytes of all parameters and buffers."""
    digest = sha256()
    for key, tensor in network.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Layer:
    """A layer with its tensors by slot, each with its name."""

    module: nn.Module
    handler: LayerHandler
    slots: dict[str, tuple[str, Tensor]]


def _layers_of(network: ReconstructedNetwork) -> dict[str, _Layer]:
    """The layers by name, in the order they first run. A tensor shared between layers keeps the first name."""
    names: dict[int, str] = {}
    layers: dict[str, _Layer] = {}
    for node in network.graph.nodes:
        if node.layer in layers:
            continue
        module, handler = network.layer(node.layer), handler_for(node.op)
        given = handler.tensors(module)
        # The handler may hand out detached views; identity is the module's.
        own = module.state_dict(keep_vars=True) if given else {}
        slots: dict[str, tuple[str, Tensor]] = {}
        for slot, view in given.items():
            tensor = own.get(slot, view)
            slots[slot] = (names.setdefault(id(tensor), f"{node.layer}/{slot}"), tensor)
        layers[node.layer] = _Layer(module, handler, slots)
    return layers


def _by_name(layers: Iterable[_Layer]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for layer in layers:
        for name, tensor in layer.slots.values():
            if name not in found:
                found[name] = tensor.detach()
    return found


def rebuild(document: Document, tensors: Mapping[str, Tensor]) -> ReconstructedNetwork:
    """The network of a complete document, in eval mode. Tensors that the document shares are shared again.

    Raises:
        DocumentError: parameters or tensors do not fit an op; names the node.
        UnsupportedOpError: an op has no handler; names the distribution to install.
    """
    layers: dict[str, nn.Module] = {}
    first: dict[str, tuple[nn.Module, str]] = {}
    for node in document.nodes:
        if node.layer in layers:
            continue
        handler = handler_for(node.op)
        known = handler.spec.op_version
        if node.op_version > known:
            raise DocumentError(
                f"node `{node.name}` needs version {node.op_version} of `{node.op}`, the installed handler has {known}",
                hint="upgrade the distribution that provides it",
            )
        if missing := [name for name in node.tensors.values() if name not in tensors]:
            raise DocumentError(f"node `{node.name}`: the tensor `{missing[0]}` is missing")
        slots = {slot: tensors[name] for slot, name in node.tensors.items()}
        try:
            module = handler.build(typed_params(node), slots)
        except (ValueError, TypeError, RuntimeError) as error:
            raise DocumentError(f"node `{node.name}` ({node.op}) cannot be built: {error}") from error
        layers[node.layer] = module
        for slot, name in node.tensors.items():
            _share(first, name, module, slot)
    graph = document.model_copy(deep=True)
    graph.tensors = []
    for node in graph.nodes:
        node.tensors = {}
    return ReconstructedNetwork(graph, layers).eval()


def _share(first: dict[str, tuple[nn.Module, str]], name: str, module: nn.Module, slot: str) -> None:
    if slot not in module.state_dict():
        return
    if name in first:
        owner, leaf = _owner(*first[name])
        mine, my_leaf = _owner(module, slot)
        setattr(mine, my_leaf, getattr(owner, leaf))
    else:
        first[name] = (module, slot)


def _owner(module: nn.Module, slot: str) -> tuple[nn.Module, str]:
    path, _, leaf = slot.rpartition(".")
    return module.get_submodule(path), leaf


def make_layer(op: str, params: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """A new layer of any op, through its handler: how a compressor makes layers of other families.

    Raises:
        UnsupportedOpError: no handler is installed for `op`.
        DocumentError: the parameters or tensors do not fit it.
    """
    handler = handler_for(op)
    try:
        return handler.build(handler.Params(**params), tensors)
    except ValueError as error:
        raise DocumentError(f"`{op}` cannot be built from {dict(params)}: {error}") from error
