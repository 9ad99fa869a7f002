"""The exporter `vnmodel`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from amc_plugins.exporting import CheckFailed, Exporter, largest_difference, refuse_opaque, verify_reload
from amc_plugins.graph import ReconstructedNetwork, document_and_tensors, fold_norms, rebuild
from amc_venus_export._encoding import chosen, rounded
from amc_venus_export._header import HEADER_BYTES, VERSION, read_header
from amc_venus_export._reader import open_vnmodel
from amc_venus_export._writer import write_vnmodel

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.document import Document
    from amc_venus_export._storage import Storage

__all__ = ["VnModelExporter"]

_log = logging.getLogger(__name__)
_FOLDING = 1e-4
"""What folding in float32 may change of the outputs, as a share of the largest; seen are 1e-7 to 1e-5."""


class VnModelExporter(Exporter):
    """`.vnmodel`, this project's own open format (docs/vnmodel.md); it is not Huya's Venus format."""

    def export(self, network: ReconstructedNetwork, path: Path) -> None:
        """Write the file. Raises `UnsupportedOpError` for opaque nodes, `VnModelError` for what the format cannot hold."""
        refuse_opaque(network, ".vnmodel")
        written = self._prepared(network)
        document, tensors = document_and_tensors(written)
        document.metadata = {**document.metadata, **self.settings.metadata}
        base = self.settings.model_base_size_hw or _recorded_size(document)
        write_vnmodel(
            path,
            document,
            tensors,
            stored=self._storages(document, tensors),
            model_id=self.settings.model_id,
            model_base_size_hw=base,
            align=self.settings.align,
        )

    def verify(self, path: Path, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
        """Reload with every check and compare the outputs bit for bit with the network that was to be written.

        That is `network`, after folding and with the weights rounded as the settings ask. What rounding does to the outputs is
        a WARNING of the log, what folding does an INFO.

        Raises:
            CheckFailed: the file computes something else, or folding changes the outputs by more than 1e-4 of the largest.
        """
        meant = self._prepared(network)
        document, tensors = document_and_tensors(meant)
        if storages := self._storages(document, tensors):
            meant = rebuild(document, rounded(tensors, storages))
        if meant is not network:
            device = next((one.device for one in network.state_dict().values()), torch.device("cpu"))
            difference = largest_difference(meant.to(device), network, inputs)
            if storages:
                scheme, changed = self.settings.storage, "folding and rounding" if self.settings.fold_norms else "rounding"
                _log.warning("%s: %s to %s changes the outputs by %.2g of the largest", path, changed, scheme, difference)
            else:
                _log.info("%s: folding changes the outputs by %.2g of the largest", path, difference)
            if not storages and difference > _FOLDING:
                raise CheckFailed(f"folding batch norms changes the outputs by {difference:.2g} of the largest")
        verify_reload(self.load(path), meant, inputs)

    def load(self, path: Path) -> ReconstructedNetwork:
        """Rebuild the network. Raises `VnModelError` for anything that is not a sound file of ops installed here."""
        return open_vnmodel(path).network()

    def document(self, path: Path) -> Document:
        """The graph of any sound file, also of ops that have no handler here."""
        return open_vnmodel(path, generic=True).document

    def facts(self, path: Path) -> dict[str, Any]:
        """Version, numbers and sizes of the file, and how many bytes its tensors have in which form."""
        model = open_vnmodel(path, generic=True)
        with path.open("rb") as file:
            header = read_header(file.read(HEADER_BYTES), path.stat().st_size, model.limits)
        forms: Counter[str] = Counter()
        for spec in model.document.tensors:
            one = model.stored.get(spec.name)
            tensor = model.tensors[spec.name]
            forms[spec.dtype if one is None else one.storage.scheme] += tensor.nbytes if one is None else len(one.data)
        return {
            "format": f".vnmodel {VERSION[0]}.{header.minor}",
            "model_id": model.model_id,
            "model_base_size_hw": model.model_base_size_hw,
            "data_aligned_to": model.align,
            "stored_bytes": dict(forms),
        }

    def _prepared(self, network: ReconstructedNetwork) -> ReconstructedNetwork:
        return fold_norms(network) if self.settings.fold_norms else network

    def _storages(self, document: Document, tensors: dict[str, Tensor]) -> dict[str, Storage]:
        scheme = self.settings.storage
        return {} if scheme == "float32" else chosen(document, tensors, scheme)


def _recorded_size(document: Document) -> tuple[int, int] | None:
    """Height and width of the first input, when it is an image of fixed size."""
    shape = document.inputs[0].shape
    if len(shape) == 4 and shape[2] is not None and shape[3] is not None:
        return shape[2], shape[3]
    return None
