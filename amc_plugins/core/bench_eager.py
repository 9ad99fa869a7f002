"""PyTorch, as the user runs it, as an engine of `amc bench`."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_plugins.core.document import map_tree, tree_leaves
from amc_plugins.core.errors import AmcError
from amc_plugins.core.snapshots import load_snapshot, save_snapshot
from amc_plugins.core.structure import tensors_in
from amc_plugins.exporting import Engine

if TYPE_CHECKING:
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["Eager", "arrays_of", "write_eager"]


def write_eager(network: ReconstructedNetwork, path: Path) -> None:
    """Write a network for `Eager`: as the snapshots of runs are, and pickled where it has opaque calls."""
    if save_snapshot(network, path):
        return
    import cloudpickle

    try:
        path.write_bytes(cloudpickle.dumps(network))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise AmcError(f"a call without a handler cannot be handed to another process: {error}") from error


class Eager(Engine):
    """The network as it is, in eval mode, without gradients."""

    title = "PyTorch eager"

    def __init__(self, path: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = (load_snapshot(path) if _is_archive(path) else pickle.loads(path.read_bytes())).eval()

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        graph = self._network.graph
        tensors = {spec.name: torch.from_numpy(one) for spec, one in zip(graph.inputs, inputs, strict=True)}
        with torch.inference_mode():
            result = self._network(*(map_tree(tree, tensors.__getitem__) for tree in graph.signature))
        return [one.numpy() if isinstance(one, Tensor) else one for one in _leaves(graph.outputs, result)]


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _leaves(tree: Any, result: Any) -> list[Any]:
    """What stands in `result` where the structure names values."""
    if isinstance(tree, str):
        return [result]
    if tree is None or "const" in tree:
        return []
    ((kind, body),) = tree.items()
    return [leaf for key, item in (body.items() if kind == "dict" else enumerate(body)) for leaf in _leaves(item, result[key])]


def arrays_of(network: ReconstructedNetwork, inputs: Sequence[Any]) -> list[Any]:
    """The inputs in the order of the document, as NumPy arrays on the CPU."""
    names = [name for tree in network.graph.signature for name in tree_leaves(tree)]
    by_name = dict(zip(names, tensors_in(tuple(inputs)), strict=True))
    return [by_name[spec.name].detach().cpu().contiguous().numpy() for spec in network.graph.inputs]
