"""The `.pkl` archive: `torch.save` of plain data, read with `weights_only=True` after its sizes were looked at."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from amc_archive_export._document import check_tensors, read_document
from amc_plugins.document import Document, DocumentError, parse_strict
from amc_plugins.exporting import Exporter, atomic_write, refuse_opaque, verify_reload
from amc_plugins.graph import ReconstructedNetwork, document_and_tensors, rebuild

__all__ = ["PklExporter", "read_pkl", "write_pkl"]

FORMAT = "amc-archive"
VERSION = [1, 0]
MAX_PICKLE_BYTES = 64 * 2**20
"""The pickle itself holds the document's text and one record per tensor; the tensors' bytes are zip entries of their own."""
MAX_GRAPH_BYTES = 16 * 2**20


class PklExporter(Exporter):
    """`.pkl`: `{"format", "version", "document": canonical JSON, "tensors": {name: tensor}}` in a torch zip archive."""

    def export(self, network: ReconstructedNetwork, path: Path) -> None:
        """Write the archive. Raises `UnsupportedOpError` for opaque nodes."""
        refuse_opaque(network, ".pkl")
        write_pkl(path, *document_and_tensors(network))

    def verify(self, path: Path, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
        """Reload and compare the outputs bit for bit. Raises `CheckFailed`."""
        verify_reload(self.load(path), network, inputs)

    def load(self, path: Path) -> ReconstructedNetwork:
        """Rebuild the network. Raises `DocumentError` for anything that is not such an archive."""
        return rebuild(*read_pkl(path))

    def document(self, path: Path) -> Document:
        """The graph, also of ops that have no handler here."""
        return read_pkl(path)[0]


def write_pkl(path: Path, document: Document, tensors: Mapping[str, Tensor]) -> None:
    """Write a document and its tensors. Equal contents give equal bytes.

    Raises:
        DocumentError: the tensors are not the document's.
    """
    check_tensors(document, tensors)
    archive = {
        "format": FORMAT,
        "version": VERSION,
        "document": document.to_json(),
        "tensors": _compact({spec.name: tensors[spec.name] for spec in document.tensors}),
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        torch.save(archive, file)  # through a file object: a path's name would go into the archive


def _compact(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, each the only user of its storage. (A tensor of several layers is one name, so it stays one.)"""
    seen: set[int] = set()
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage()
        if storage.nbytes() != own.numel() * own.element_size() or storage._cdata in seen:
            own = own.clone()
        seen.add(own.untyped_storage()._cdata)
        made[name] = own
    return made


def read_pkl(path: Path) -> tuple[Document, dict[str, Tensor]]:
    """Read a document and its tensors; runs no code from the file and allocates no more than its size.

    Raises:
        DocumentError: it is no such archive, asks for code, or lies about a size.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DocumentError(f"{path} is not a regular file")
        size = path.stat().st_size
        with path.open("rb") as file:
            _check_entries(path, file)
            # On the meta device first: shapes and storage sizes as the pickle claims them, without memory.
            document, claimed = _parts(path, _unpickle(path, file, "meta"))
            _check_sizes(path, claimed, size)
            check_tensors(document, claimed)
            _, tensors = _parts(path, _unpickle(path, file, "cpu"))
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error}") from error
    check_tensors(document, tensors)
    return document, tensors


def _check_entries(path: Path, file: IO[bytes]) -> None:
    """A torch archive stores its entries uncompressed, so nothing in it is larger than the file."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise DocumentError(f"{path} is not a torch archive: {error}", hint="only files of the `pkl` exporter load") from error
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise DocumentError(f"{path} has a compressed entry `{entry.filename[:80]}`, which torch archives do not have")
        if entry.filename.endswith("data.pkl") and entry.file_size > MAX_PICKLE_BYTES:
            raise DocumentError(f"{path}: the pickle has {entry.file_size} bytes, at most {MAX_PICKLE_BYTES} are read")


def _unpickle(path: Path, file: IO[bytes], device: str) -> Any:
    file.seek(0)
    try:
        return torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # torch raises a dozen types on damaged files
        raise DocumentError(
            f"{path} is refused: it is damaged, or its pickle asks for code to run ({type(error).__name__}: {_reason(error)})",
            hint="only files of the `pkl` exporter load; torch.load(weights_only=False) would run the code of whoever made it",
        ) from error


def _reason(error: Exception) -> str:
    """What torch found, without the advice around it to load the file with `weights_only=False`."""
    paragraphs = [one.strip() for one in str(error).split("\n\n") if one.strip()]
    found = [one for one in paragraphs if "weights_only" not in one] or paragraphs or ["no reason given"]
    return found[0].splitlines()[0][:300]


def _parts(path: Path, archive: Any) -> tuple[Document, dict[str, Tensor]]:
    if type(archive) is not dict or set(archive) != {"format", "version", "document", "tensors"}:
        raise DocumentError(
            f"{path} is a torch file, but not one of the `pkl` exporter",
            hint="checkpoints (state_dict) are given with --weights or load_state_dict",
        )
    version = archive["version"]
    if archive["format"] != FORMAT or type(version) is not list or [type(part) for part in version] != [int, int]:
        raise DocumentError(f"{path} has format {str(archive['format'])[:40]!r}, expected {FORMAT!r}")
    if version[0] != VERSION[0]:
        raise DocumentError(f"{path} has version {version}, this reader knows {VERSION}", hint="upgrade amc-archive-export")
    text, tensors = archive["document"], archive["tensors"]
    if type(text) is not str or type(tensors) is not dict or not all(type(name) is str for name in tensors):
        raise DocumentError(f"{path}: `document` must be text and `tensors` a dict by name")
    for name, tensor in tensors.items():
        if type(tensor) is not Tensor or tensor.layout != torch.strided or not tensor.is_contiguous():
            raise DocumentError(f"{path}: `{name}` is not a plain contiguous tensor")
    if len(text) > MAX_GRAPH_BYTES:
        raise DocumentError(f"{path}: the document has {len(text)} characters, at most {MAX_GRAPH_BYTES} are read")
    return read_document(parse_strict(text.encode("utf-8", "surrogatepass"))), tensors


def _check_sizes(path: Path, tensors: Mapping[str, Tensor], size: int) -> None:
    """torch enlarges a storage that is smaller than its tensor claims (zeros follow), so the claims are what counts."""
    if (total := sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())) > size:
        raise DocumentError(f"{path} has {size} bytes and claims tensors of {total}")
