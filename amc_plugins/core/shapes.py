"""Shapes of every value, without computing any: handlers' shape rules, else the layer on the meta device."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from amc_plugins.core.describe import typed_params
from amc_plugins.core.document import Node
from amc_plugins.core.errors import AmcError, GraphError
from amc_plugins.core.intrinsics import CONSTANT, INT, OPAQUE, SIZE
from amc_plugins.core.network import ReconstructedNetwork, Step, handler_for, walk
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.handlers import LayerHandler, Shape

__all__ = ["on_meta", "run_shapes", "shapes"]


def shapes(network: ReconstructedNetwork, *inputs: Any, typed: dict[str, Any] | None = None) -> dict[str, Shape]:
    """The shape of every tensor value, by name.

    Args:
        network: not run on its own device unless it has opaque nodes that the meta device cannot run.
        inputs: tensors of the wanted shapes (their data does not matter); without them the captured shapes with a batch of one.
        typed: gets the validated parameters of the nodes that were asked for theirs, by name.

    Raises:
        GraphError: the network does not run on such inputs; names the node that refuses them, and the captured shapes.
    """
    given = _fitting(network, inputs) if inputs else network.example_inputs(batch=1)
    running: list[Node] = []
    try:
        if _as_captured(network, given):
            try:
                return _ruled(network, given, running, {} if typed is None else typed)
            except (RuntimeError, TypeError):
                pass  # a rule says nothing about dtypes, so what runs after it may get another one than it needs
        # Rules describe what a layer makes of inputs that it takes: whether it takes others, only the layer knows.
        return run_shapes(network, *given, running=running)
    except AmcError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        sizes = ", ".join("x".join(map(str, one.shape)) or "()" for one in tensors_in(given))
        where = f"`{running[-1].name}` ({running[-1].op}) at {running[-1].source or 'an unknown line'}: " if running else ""
        raise GraphError(
            f"the network does not run on inputs of {sizes}: {where}{str(error).strip().splitlines()[0]}",
            hint=f"it was captured on {_recorded(network)}",
        ) from error


def _fitting(network: ReconstructedNetwork, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs, floats in the network's dtype, once their number, structure and kind are those of the network's own."""
    expected = network.example_inputs()
    tensors, own = tensors_in(inputs), tensors_in(expected)
    if _structure(inputs) != _structure(expected):
        raise GraphError(
            f"the network takes {_counted(expected)}, given were {_counted(inputs)}",
            hint=f"it was captured on {_recorded(network)}",
        )
    for spec, one, like in zip(network.graph.inputs, tensors, own, strict=True):
        if one.is_floating_point() != like.is_floating_point():
            raise GraphError(
                f"the input `{spec.name}` holds {like.dtype}, given was {one.dtype}",
                hint=f"it was captured on {_recorded(network)}",
            )
    dtypes = {id(one): like.dtype for one, like in zip(tensors, own, strict=True)}
    return tuple(map_leaves(inputs, lambda item: item.to(dtypes[id(item)]) if isinstance(item, Tensor) else item))


def _structure(item: Any) -> Any:
    """What two inputs have in common that are nested alike; only the places of tensors matter."""
    if isinstance(item, dict):
        return {key: _structure(one) for key, one in item.items()}
    if isinstance(item, list | tuple):
        return [_structure(one) for one in item]
    return isinstance(item, Tensor)


def _counted(inputs: tuple[Any, ...]) -> str:
    kinds = ", ".join("a tensor" if isinstance(one, Tensor) else f"a {type(one).__name__}" for one in inputs)
    return f"{len(inputs)} input{'s' * (len(inputs) != 1)} ({kinds})"


def _recorded(network: ReconstructedNetwork) -> str:
    return ", ".join(
        f"`{spec.name}`: {'x'.join('N' if size is None else str(size) for size in spec.shape) or '()'} {spec.dtype}"
        for spec in network.graph.inputs
    )


def _as_captured(network: ReconstructedNetwork, inputs: Any) -> bool:
    return all(
        len(spec.shape) == one.dim() and all(want in (None, have) for want, have in zip(spec.shape, one.shape, strict=True))
        for spec, one in zip(network.graph.inputs, tensors_in(inputs), strict=True)
    )


def run_shapes(network: ReconstructedNetwork, *inputs: Any, running: list[Node] | None = None) -> dict[str, Shape]:
    """As `shapes`, from the layers themselves: no handler's rule is believed. `running` gets the nodes as they run."""
    try:
        return _walked(on_meta(network), _meta(inputs), running)
    except NotImplementedError:  # an op without a meta kernel, in somebody's opaque node
        training = [(module, module.training) for module in network.modules()]
        try:
            return _walked(network.eval(), inputs, running)
        finally:
            for module, mode in training:
                module.training = mode


def _walked(network: ReconstructedNetwork, inputs: Any, running: list[Node] | None) -> dict[str, Shape]:
    around = None if running is None else lambda step: running.append(step.node)
    found = {name: tuple(tensor.shape) for name, tensor in zip(network.input_nodes, tensors_in(inputs), strict=True)}
    with torch.no_grad():
        for step in walk(network, inputs, around=around):
            for name, one in zip(step.node.outputs, step.outputs, strict=True):
                if isinstance(one, Tensor):
                    found[name] = tuple(one.shape)
    return found


class _Like:
    """A value of which shape and dtype are known."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        self.shape = shape
        self.dtype = dtype

    def on_meta(self) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


def _like(item: Any) -> Any:
    return _Like(tuple(item.shape), item.dtype) if isinstance(item, Tensor) else item


def _ruled(network: ReconstructedNetwork, inputs: Any, running: list[Node], typed: dict[str, Any]) -> dict[str, Shape]:
    """The shapes by the rules of handlers; only a layer without one runs, on the meta device."""
    handlers: dict[str, LayerHandler] = {}
    layers: dict[str, nn.Module] = {}
    ran: dict[tuple[Any, ...], Any] = {}  # equal layers give equal shapes, and some take the meta device milliseconds

    def run(step: Step) -> Any:
        node = step.node
        running.append(node)
        if node.op == SIZE and not step.params:
            return step.inputs[0].shape[node.params["dim"]]
        if node.op == CONSTANT:
            return _like(step.module.value)
        if node.op not in (SIZE, INT, OPAQUE) and step.inputs:
            handler = handlers.get(node.op) or handlers.setdefault(node.op, handler_for(node.op))
            if step.params:
                params = handler.Params(**{**node.params, **step.params})
            else:
                params = typed[node.name] = typed_params(node, handler)
            known = handler.shapes(params, [one.shape for one in step.inputs])
            if known is not None:
                dtype = step.inputs[0].dtype
                made = [_Like(tuple(shape), dtype) for shape in known]
                return made[0] if len(made) == 1 else made
        owns = bool(step.module._parameters or step.module._buffers or step.module._modules)
        asked = [(one.shape, one.dtype) if isinstance(one, _Like) else one for one in step.inputs]
        what = node.layer if owns or node.op == OPAQUE else (node.op, repr(node.params))
        key = what, repr(asked), repr(step.params)
        if key in ran:
            return ran[key]
        layer = layers.get(node.layer)
        if layer is None:
            layer = layers[node.layer] = on_meta(step.module) if owns else step.module
        made = layer(*[one.on_meta() if isinstance(one, _Like) else one for one in step.inputs], **step.params)
        ran[key] = [_like(one) for one in made] if isinstance(made, list | tuple) else _like(made)
        return ran[key]

    given = map_leaves(inputs, _like)
    found = {name: tuple(tensor.shape) for name, tensor in zip(network.input_nodes, tensors_in(inputs), strict=True)}
    with torch.no_grad():
        for step in walk(network, given, run=run):
            for name, one in zip(step.node.outputs, step.outputs, strict=True):
                if isinstance(one, _Like):
                    found[name] = one.shape
    return found


def _meta(inputs: Any) -> Any:
    return map_leaves(inputs, lambda item: item.to("meta") if isinstance(item, Tensor) else item)


def on_meta(module: Any) -> Any:
    """A copy of a module whose tensors have shapes and no data."""
    memo: dict[int, Any] = {}
    if isinstance(module, ReconstructedNetwork):  # its plan has no tensors, and nothing here changes it
        memo.update({id(one): one for one in (module.graph, module._schedule, module._slots)})
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = (
            nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        )
    return copy.deepcopy(module, memo).eval()
