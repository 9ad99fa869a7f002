"""A file in ONNX Runtime compared with its network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_onnx_export._engines import session
from amc_onnx_export._facts import inputs_of_shape, named_inputs
from amc_onnx_export._model import output_names
from amc_plugins.exporting import CheckFailed

if TYPE_CHECKING:
    from amc_plugins.graph import ReconstructedNetwork

__all__ = ["compare", "fitted", "run"]

TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Share of the largest output; of other types 1e-5."""


def run(made: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs for inputs in the file's order."""
    names = [one.name for one in made.get_inputs()]
    given = {name: one.detach().cpu().contiguous().numpy() for name, one in zip(names, inputs, strict=True)}
    return [torch.as_tensor(one) for one in made.run(None, given)]


def fitted(tensor: Tensor, shape: Sequence[Any]) -> Tensor:
    """The tensor with the fixed sizes of `shape`: cut, or begun again, along each axis."""
    for axis, size in enumerate(shape):
        if isinstance(size, int) and size != tensor.shape[axis]:
            tensor = tensor.index_select(axis, torch.arange(size, device=tensor.device) % tensor.shape[axis])
    return tensor


def compare(path: Path, network: ReconstructedNetwork, inputs: Sequence[Any]) -> float:
    """The largest difference between a file in ONNX Runtime and a network in eval mode, as a share of its largest output.

    Raises:
        CheckFailed: it is more than 1e-5 (more for half precision), or shapes, types or whole numbers differ.
    """
    made = session(path, torch.get_num_threads())
    shapes = [one.shape for one in made.get_inputs()]
    tensors = named_inputs(network, inputs)
    tensors = {name: fitted(one, shape) for (name, one), shape in zip(tensors.items(), shapes, strict=True)}
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            result = network.eval()(*inputs_of_shape(network, tensors))
    finally:
        for module, training in modes:
            module.training = training
    theirs = run(made, [tensors[spec.name] for spec in network.graph.inputs])
    names = [name for name, _ in output_names(network.graph.outputs)]
    worst = 0.0
    for name, mine, other in zip(names, _leaves(network.graph.outputs, result), theirs, strict=True):
        worst = max(worst, _difference(path, name, torch.as_tensor(mine).detach().cpu(), other))
    return worst


def _difference(path: Path, name: str, mine: Tensor, other: Tensor) -> float:
    if mine.shape != other.shape or mine.dtype != other.dtype:
        raise CheckFailed(
            f"output `{name}` of {path} is {other.dtype} {tuple(other.shape)}, "
            f"the network's is {mine.dtype} {tuple(mine.shape)}"
        )
    if not mine.numel():
        return 0.0
    if not mine.is_floating_point():
        if not torch.equal(mine, other):
            raise CheckFailed(f"output `{name}` of {path} differs in {int((mine != other).sum())} of {mine.numel()} entries")
        return 0.0
    a, b = mine.double(), other.double()
    same = (a == b) | (a.isnan() & b.isnan())
    error = torch.where(same, 0.0, (a - b).abs().nan_to_num(torch.inf, torch.inf)).max().item()
    finite = a[a.isfinite()].abs()
    share = error / max(finite.max().item() if finite.numel() else 0.0, 1e-30)
    allowed = TOLERANCE.get(mine.dtype, 1e-5)
    if share > allowed:
        raise CheckFailed(
            f"output `{name}` of {path} in ONNX Runtime differs by {share:.1e} of its largest entry, allowed is {allowed:.0e}"
        )
    return share


def _leaves(tree: Any, result: Any) -> list[Any]:
    """What stands in `result` where the structure names values."""
    found: list[Any] = []

    def visit(tree: Any, result: Any) -> None:
        if isinstance(tree, str):
            found.append(result)
        elif isinstance(tree, dict) and "const" not in tree:
            ((kind, body),) = tree.items()
            for key, item in body.items() if kind == "dict" else enumerate(body):
                visit(item, result[key])

    visit(tree, result)
    return found
