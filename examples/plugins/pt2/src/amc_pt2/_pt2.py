"""The exporter `pt2`: the ATen graph of `torch.export`, with the document beside it so that `amc.load` reads it back."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from amc_plugins.document import Document, DocumentError
from amc_plugins.exporting import CheckFailed, Exporter, UnsupportedOpError, atomic_write, refuse_opaque
from amc_plugins.graph import ReconstructedNetwork, describe, rebuild, tensors_of
from torch import Tensor
from torch.utils import _pytree as pytree

DOCUMENT = "amc_document.json"
TENSORS = "amc_tensors.json"


class Pt2Exporter(Exporter):
    """`torch.export.load(path).module()` runs it; nothing of amc-plugins or of the user's code is needed there."""

    def export(self, network: ReconstructedNetwork, path: Path) -> None:
        refuse_opaque(network, ".pt2")  # torch could write such calls, but no document could hold them
        quiet = network.clone().eval()
        inputs = quiet.example_inputs(batch=2)
        dynamic = None
        if self.settings.dynamic_batch:
            opened = iter([spec.shape[:1] == [None] for spec in network.graph.inputs])
            # one entry for all positional inputs, which `forward` takes as `*inputs`
            dynamic = (pytree.tree_map(lambda _: {0: torch.export.Dim.AUTO} if next(opened) else None, tuple(inputs)),)
        program = torch.export.export(quiet, tuple(inputs), dynamic_shapes=dynamic)
        extra = {DOCUMENT: describe(quiet).to_json(), TENSORS: json.dumps(_keys(quiet))}
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=extra)
        with atomic_write(path) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def verify(self, path: Path, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
        """Raises `CheckFailed` when an output differs by more than the tolerance."""
        program, _ = _read(path)
        modes = [(module, module.training) for module in network.modules()]
        try:
            with torch.no_grad():
                theirs = pytree.tree_leaves(network.eval()(*inputs))
                ours = pytree.tree_leaves(program.module()(*inputs))
        finally:
            for module, training in modes:
                module.training = training
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if isinstance(b, Tensor):
                worst = float((a - b).abs().max()) if b.numel() else 0.0
                if not worst <= self.settings.tolerance * max(1.0, float(b.abs().max()) if b.numel() else 1.0):
                    raise CheckFailed(f"output {index} of {path} differs by {worst:.3e}")

    def load(self, path: Path) -> ReconstructedNetwork:
        program, extra = _read(path)
        try:
            keys = json.loads(extra[TENSORS])
            tensors = {name: program.state_dict[key].detach() for name, key in keys.items()}
            return rebuild(Document.from_json(extra[DOCUMENT]), tensors)
        except (KeyError, ValueError) as error:
            raise DocumentError(f"{path} was not written by the exporter `pt2`: {error}") from error


def _keys(network: ReconstructedNetwork) -> dict[str, str]:
    """Name of each tensor in the document -> its key in the state dict."""
    known = {(tensor.data_ptr(), tuple(tensor.shape)): key for key, tensor in network.state_dict().items()}
    found = {}
    for name, tensor in tensors_of(network).items():
        key = known.get((tensor.data_ptr(), tuple(tensor.shape)))
        if key is None:
            raise UnsupportedOpError(f"`{name}` is not in the state dict, so torch.export does not keep it")
        found[name] = key
    return found


def _read(path: Path) -> tuple[Any, dict[str, str]]:
    if not path.is_file():
        raise DocumentError(f"there is no file {path}")
    extra = {DOCUMENT: "", TENSORS: ""}
    try:
        return torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra), extra
    except Exception as error:  # noqa: BLE001 - torch's reader raises whatever a damaged archive makes it raise
        raise DocumentError(f"{path} cannot be read as an archive of torch.export: {error}") from error
