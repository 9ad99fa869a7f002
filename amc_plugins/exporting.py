"""The contract of an exporter: `Exporter`, and the helpers that keep files safe. This module is its reference page."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from amc_plugins.core.errors import AmcError, CheckFailed, UnsupportedOpError

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.core.document import Document
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = [
    "AmcError",
    "CheckFailed",
    "Engine",
    "Exporter",
    "MissingEngineError",
    "UnsupportedOpError",
    "atomic_write",
    "emitter_for",
    "largest_difference",
    "refuse_opaque",
    "verify_reload",
]


class Exporter(ABC):
    """Writes networks to files of one format."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def export(self, network: ReconstructedNetwork, path: Path) -> None:
        """Write `path` whole or not at all (`atomic_write`).

        Raises:
            UnsupportedOpError: a node cannot be written; named with its source line.
        """

    @abstractmethod
    def verify(self, path: Path, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
        """Check that the file computes what the network does on `inputs`.

        Raises:
            CheckFailed: it does not; the message has the largest difference.
        """

    def load(self, path: Path) -> ReconstructedNetwork:
        """Read a network back. Only exporters whose declaration says `loads=True`."""
        raise UnsupportedOpError(f"{type(self).__name__} writes files that it cannot read back: {path}")

    def document(self, path: Path) -> Document:
        """The graph in a file, for `amc inspect` where `load` refuses the file. Default: of the network that `load` gives.

        A format that can be read without the handlers of its ops says so by overriding it (since 1.1).
        """
        from amc_plugins.core.describe import describe

        return describe(self.load(path))

    def facts(self, path: Path) -> dict[str, Any]:
        """What the file says beside its network, as plain data by name; `amc inspect` prints it."""
        return {}


class MissingEngineError(AmcError):
    """An engine is not installed here; the hint says what to install."""


class Engine(ABC):
    """Runs files of one format as they run where they are deployed: what `amc bench` times (since 1.1).

    An exporter's declaration names the engines of its files, `engines={"onnxruntime": "package.module:OnnxRuntime"}`. The
    module imports no torch: it runs in a process of its own, whose memory is measured. Tensors are NumPy arrays.
    """

    title: ClassVar[str]
    """What people call it: `ONNX Runtime`."""
    quick: ClassVar[bool] = True
    """Whether loading takes well under a second; the others are left out of the reports of runs."""

    @abstractmethod
    def __init__(self, path: Path, threads: int) -> None:
        """Load a file, to run on so many threads.

        Raises:
            MissingEngineError: the engine is not installed here.
            AmcError: it does not take the file.
        """

    @abstractmethod
    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs for inputs, both in the order of the document."""

    @classmethod
    def settings(cls, batch: int) -> dict[str, Any]:
        """Settings of the exporter for files that are to run on so many samples."""
        return {}

    def file_bytes(self, path: Path) -> int:
        """The size of what is deployed; another than that of the exported file where the engine converts it."""
        return path.stat().st_size


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends well and removed when it does not.

    Whatever ends the process, `path` is the old file or the new one. `durable` waits until the new one is on the disk, so that
    the same holds of a power cut: for what a run goes on from; a file that is made from that can be made again.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # a temporary file is private, the result is an ordinary one
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_opaque(network: ReconstructedNetwork, form: str) -> None:
    """Refuse a network with calls that no handler covers: no file can hold them. `form` is what was to be written (`.json`).

    Raises:
        UnsupportedOpError: names each such call and its source line.
    """
    opaque = [node for node in network.graph.nodes if node.op == "opaque"]
    if opaque:
        calls = "; ".join(
            f"`{getattr(network.layer(node.layer), 'target', node.op)}` at {node.source or 'an unknown line'} ({node.name})"
            for node in opaque[:10]
        )
        more = f" and {len(opaque) - 10} more" if len(opaque) > 10 else ""
        raise UnsupportedOpError(
            f"cannot write {form}: no handler covers {calls}{more}",
            hint="install the distribution that handles it or write a LayerHandler (amc_plugins.handlers); "
            "`capture(..., strict=True)` shows the shortest one",
        )


def emitter_for(op: str, exporter: str) -> Callable[..., Any] | None:
    """The code that the op's handler declares for an exporter, `emitters={"onnx": "package.module:function"}` (since 1.1).

    None when it declares none: the exporter then looks into its own table, and refuses the op by name if it is not there
    either. What the code is given and what it gives back is the exporter's to say.

    Raises:
        UnsupportedOpError: no handler is installed for the op.
        PluginError: the code cannot be imported.
    """
    from amc_plugins.core.loading import import_target
    from amc_plugins.core.network import handler_for

    target = handler_for(op).spec.emitters.get(exporter)
    if target is None:
        return None
    found: Callable[..., Any] = import_target(target)
    return found


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def verify_reload(loaded: ReconstructedNetwork, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
    """Check that two networks give the same bits in eval mode on `inputs`. `loaded` is moved to the device of `network`.

    Raises:
        CheckFailed: they do not; the message has the largest difference.
    """
    import torch

    for tensor in network.state_dict().values():
        loaded.to(tensor.device)
        break
    # Kernels round differently for another memory format (channels_last), which files do not keep.
    originals = network.state_dict()
    for name, mine in loaded.state_dict(keep_vars=True).items():
        theirs = originals.get(name)
        if theirs is not None and theirs.shape == mine.shape and theirs.stride() != mine.stride():
            mine.data = torch.empty_like(theirs, dtype=mine.dtype).copy_(mine.data)
    ours, theirs = _outputs((loaded, network), inputs)
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
            if type(a) is not type(b) or a != b:
                raise CheckFailed(f"output {index} of the reloaded network is {a!r}, not {b!r}")
        elif a.dtype != b.dtype or a.shape != b.shape:
            raise CheckFailed(
                f"output {index} of the reloaded network is {a.dtype} {tuple(a.shape)}, not {b.dtype} {tuple(b.shape)}"
            )
        elif not torch.equal(*(one.contiguous().reshape(-1).view(torch.uint8) for one in (a, b))):  # bytes: NaN equals itself
            worst = (a.double() - b.double()).abs().max().item()
            raise CheckFailed(f"output {index} of the reloaded network differs, by at most {worst:.3e}")


def largest_difference(one: ReconstructedNetwork, other: ReconstructedNetwork, inputs: Sequence[Tensor]) -> float:
    """The largest absolute difference of two networks' outputs in eval mode, as a share of the largest output of `other`.

    Over the outputs that are tensors of floating point.
    """
    import torch

    worst, largest = 0.0, 0.0
    for a, b in zip(*_outputs((one, other), inputs), strict=True):
        if isinstance(b, torch.Tensor) and b.is_floating_point() and b.numel():
            worst = max(worst, (a.double() - b.double()).abs().max().item())
            largest = max(largest, b.double().abs().max().item())
    return worst / largest if largest else worst


def _outputs(networks: Sequence[ReconstructedNetwork], inputs: Sequence[Tensor]) -> list[list[Any]]:
    """The leaves of each network's outputs in eval mode; modes are put back."""
    import torch
    from torch.utils import _pytree as pytree

    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        with torch.no_grad():
            return [pytree.tree_leaves(network.eval()(*inputs)) for network in networks]
    finally:
        for module, training in modes:
            module.training = training
