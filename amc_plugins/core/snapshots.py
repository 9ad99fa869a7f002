"""Networks kept between the steps of a run: the document and its tensors, readable without running code."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch

from amc_plugins.core.describe import document_and_tensors, rebuild
from amc_plugins.core.document import Document
from amc_plugins.core.errors import DocumentError
from amc_plugins.core.intrinsics import OPAQUE
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.exporting import atomic_write

__all__ = ["load_snapshot", "save_snapshot"]


def save_snapshot(network: ReconstructedNetwork, path: Path) -> bool:
    """Write a network for `load_snapshot`. False, and nothing written, when it has opaque operations, which no file
    can hold.
    """
    if any(node.op == OPAQUE for node in network.graph.nodes):
        return False
    document, tensors = document_and_tensors(network)
    held = {"document": document.to_json(), "tensors": {name: tensor.cpu() for name, tensor in tensors.items()}}
    with atomic_write(path, durable=True) as temporary:
        torch.save(held, temporary)
    return True


def load_snapshot(path: Path) -> ReconstructedNetwork:
    """Read a network back. Raises `DocumentError` when the file is damaged."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        return rebuild(Document.from_json(held["document"]), held["tensors"])
    except (RuntimeError, OSError, KeyError, EOFError, TypeError, UnpicklingError) as error:
        raise DocumentError(f"`{path}` is damaged: {error}", hint="delete it; the step will be done again") from error
