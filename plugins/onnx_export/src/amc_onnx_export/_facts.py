"""What is known of every value before a network runs: its type, and the sizes that are the same whatever the open ones are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from amc_onnx_export._op import Value
from amc_plugins.document import InputSpec, map_tree, tree_leaves
from amc_plugins.exporting import AmcError
from amc_plugins.graph import TORCH_DTYPES, ReconstructedNetwork, tensors_in, walk

__all__ = ["Sizes", "facts", "input_shapes", "inputs_of_shape", "named_inputs"]

_TRIALS = ((1, 1), (5, 2), (64, 3), (2, 4), (3, 1))
"""Batch sizes, and factors of open heights and widths."""

Sizes = tuple[int, int] | str
"""Height and width, `recorded` or `dynamic`."""


def input_shapes(specs: list[InputSpec], batch: int | None, image: Sizes) -> dict[str, list[int | None]]:
    """The shape of each input: None where it is open."""
    shapes = {}
    for spec in specs:
        shape = [batch if size is None else size for size in spec.shape]
        if len(shape) == 4 and image != "recorded":
            shape[2:] = [None, None] if isinstance(image, str) else list(image)
        shapes[spec.name] = shape
    return shapes


def facts(network: ReconstructedNetwork, shapes: Mapping[str, list[int | None]]) -> dict[str, Value]:
    """Type and known sizes of every tensor, by its name in the document.

    The network runs without data for up to three choices of the open sizes; what comes out the same each time is known.

    Raises:
        AmcError: it does not run at sizes that `shapes` leaves open or asks for.
    """
    recorded = {spec.name: spec.shape for spec in network.graph.inputs}
    dtypes = _input_types(network)

    def runs(one: ReconstructedNetwork, device: str, wanted: int) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = []
        ran: list[tuple[int, int]] = []
        problem: Exception | None = None
        for trial in _TRIALS if any(None in shape for shape in shapes.values()) else _TRIALS[:1]:
            try:
                found.append(_run(one, _inputs(one, shapes, recorded, dtypes, trial, device)))
                ran.append(trial)
            except NotImplementedError:
                raise
            except (RuntimeError, AmcError) as error:  # a size that this network refuses
                problem = error
            if len(found) == wanted:
                break
        tried = [len({trial[part] for trial in ran}) for part in (0, 1)]
        if any(count < needed for count, needed in zip(tried, _needed(shapes, recorded), strict=True)):
            raise AmcError(
                f"the network does not run on inputs of the asked sizes: {str(problem).splitlines()[0]}",
                hint="image_size='recorded' takes the sizes of the example; batch=1 a single sample",
            ) from problem
        return found

    try:
        found = runs(network.clone().to("meta").eval(), "meta", 3)
    except NotImplementedError:  # an op of somebody that does not run without data
        whole = network.clone().eval()
        found = runs(whole, next((str(one.device) for one in whole.state_dict().values()), "cpu"), 2)
    return {name: Value(name, one.dtype, _common([run[name] for run in found])) for name, one in found[-1].items()}


def inputs_of_shape(network: ReconstructedNetwork, tensors: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """The arguments of the network from its inputs by name."""
    return tuple(map_tree(tree, tensors.__getitem__) for tree in network.graph.signature)


def named_inputs(network: ReconstructedNetwork, inputs: Sequence[Any]) -> dict[str, Tensor]:
    """The inputs by name, from the arguments of the network."""
    names = [name for tree in network.graph.signature for name in tree_leaves(tree)]
    return dict(zip(names, tensors_in(tuple(inputs)), strict=True))


def _needed(shapes: Mapping[str, list[int | None]], recorded: Mapping[str, list[int | None]]) -> tuple[int, int]:
    """How many batches and how many sizes must run: two of what is open."""
    opened = [(axis, recorded[name][axis]) for name, shape in shapes.items() for axis, one in enumerate(shape) if one is None]
    batch = any(axis == 0 or was is None for axis, was in opened)
    size = any(axis > 0 and was is not None for axis, was in opened)
    return 1 + batch, 1 + size


def _input_types(network: ReconstructedNetwork) -> dict[str, torch.dtype]:
    """As recorded; floating ones as the network's tensors are now (`network.half()`)."""
    floating = (one.dtype for one in network.state_dict().values() if one.is_floating_point())
    now = next(floating, None)
    recorded = {spec.name: TORCH_DTYPES[spec.dtype] for spec in network.graph.inputs}
    return {name: now if now is not None and one.is_floating_point else one for name, one in recorded.items()}


def _inputs(
    network: ReconstructedNetwork,
    shapes: Mapping[str, list[int | None]],
    recorded: Mapping[str, list[int | None]],
    dtypes: Mapping[str, torch.dtype],
    trial: tuple[int, int],
    device: str,
) -> tuple[Any, ...]:
    made = {}
    for name, shape in shapes.items():
        sizes = []
        for axis, (size, was) in enumerate(zip(shape, recorded[name], strict=True)):
            open_size = trial[0] if axis == 0 or was is None else was * trial[1]
            sizes.append(open_size if size is None else size)
        made[name] = torch.zeros(sizes, dtype=dtypes[name], device=device)
    return inputs_of_shape(network, made)


def _run(network: ReconstructedNetwork, inputs: tuple[Any, ...]) -> dict[str, Tensor]:
    """Every tensor, by name, without its data."""
    found = {name: one.to("meta") for name, one in named_inputs(network, inputs).items()}
    with torch.no_grad():
        for step in walk(network, inputs):
            for name, one in zip(step.node.outputs, step.outputs, strict=True):
                if isinstance(one, Tensor):
                    found[name] = one.to("meta")
    return found


def _common(runs: list[Tensor]) -> tuple[int | None, ...]:
    last = runs[-1]
    if any(one.dim() != last.dim() for one in runs):
        return (None,) * last.dim()
    return tuple(size if all(one.shape[axis] == size for one in runs) else None for axis, size in enumerate(last.shape))
