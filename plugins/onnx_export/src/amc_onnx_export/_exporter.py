"""The exporter `onnx`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from amc_onnx_export import _run
from amc_onnx_export._model import build_model
from amc_plugins.exporting import AmcError, Exporter, UnsupportedOpError, atomic_write, refuse_opaque
from amc_plugins.graph import ReconstructedNetwork, fold_norms

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OnnxExporter"]

logger = logging.getLogger(__name__)


class OnnxExporter(Exporter):
    """`.onnx`, opset 18, written from the graph document."""

    def export(self, network: ReconstructedNetwork, path: Path) -> None:
        """Write the file. Ops without a form in ONNX go out in their own domain, with a WARNING for each.

        A network that was recorded for some sizes only (`vn.require`) and has these sizes open in the file brings a WARNING for
        each condition: ONNX has no node that stops a run. The file's metadata has them as `amc.requires`, a JSON list.

        Raises:
            UnsupportedOpError: opaque nodes.
            AmcError: 2 GiB or more, or sizes that the network does not run at.
        """
        refuse_opaque(network, ".onnx")
        source = fold_norms(network) if self.settings.fold_norms else network
        written = build_model(source, batch=self.settings.batch, image=self.settings.image_size)
        onnx.checker.check_model(written.model)
        data = written.model.SerializeToString(deterministic=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        for one in written.foreign:
            logger.warning("%s has an op that no ONNX engine runs: %s", path, one)
        for condition in written.conditions:
            logger.warning(
                "%s computes what the network does only where %s, which no ONNX engine checks; fixed sizes need no check "
                "(batch=..., image_size=...)", path, condition,
            )  # fmt: skip

    def verify(self, path: Path, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
        """Compare with ONNX Runtime, to 1e-5 of the largest output. A fixed batch or size of the file cuts the inputs.

        Raises:
            UnsupportedOpError: the file has ops in a domain of their own, which ONNX Runtime cannot run; names them.
            CheckFailed: it computes something else.
        """
        if foreign := _foreign(path):
            raise UnsupportedOpError(
                f"{path} is written, and no ONNX engine runs it: it has {', '.join(f'`{op}`' for op in foreign)}",
                hint="give the op's handler an emitter (`emitters={'onnx': 'package.module:function'}`), "
                "or keep the file as it is with verify=False",
            )
        _run.compare(path, network, inputs)


def _foreign(path: Path) -> list[str]:
    """The ops of a file that are in a domain of their own."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise AmcError(f"{path} cannot be read: {error}") from error
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        raise AmcError(f"{path} is no ONNX file") from error
    return sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx")})
