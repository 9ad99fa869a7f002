"""The exporter `vnmodel`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amc_plugins.exporting import Exporter, refuse_opaque, verify_reload
from amc_plugins.graph import ReconstructedNetwork, describe, tensors_of
from amc_venus_export._reader import open_vnmodel
from amc_venus_export._writer import write_vnmodel

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.document import Document

__all__ = ["VnModelExporter"]


class VnModelExporter(Exporter):
    """`.vnmodel`, this project's own open format (docs/vnmodel.md); it is not Huya's Venus format."""

    def export(self, network: ReconstructedNetwork, path: Path) -> None:
        """Write the file. Raises `UnsupportedOpError` for opaque nodes, `VnModelError` for what the format cannot hold."""
        refuse_opaque(network, ".vnmodel")
        document = describe(network)
        document.metadata = {**document.metadata, **self.settings.metadata}
        base = self.settings.model_base_size_hw or _recorded_size(document)
        tensors = tensors_of(network)
        write_vnmodel(
            path, document, tensors, model_id=self.settings.model_id, model_base_size_hw=base, align=self.settings.align
        )

    def verify(self, path: Path, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
        """Reload with every check and compare the outputs bit for bit. Raises `CheckFailed`."""
        verify_reload(self.load(path), network, inputs)

    def load(self, path: Path) -> ReconstructedNetwork:
        """Rebuild the network. Raises `VnModelError` for anything that is not a sound file of ops installed here."""
        return open_vnmodel(path).network()


def _recorded_size(document: Document) -> tuple[int, int] | None:
    """Height and width of the first input, when it is an image of fixed size."""
    shape = document.inputs[0].shape
    if len(shape) == 4 and shape[2] is not None and shape[3] is not None:
        return shape[2], shape[3]
    return None
