"""The `.json` archive: the graph document for people to read, and the exact bytes of its tensors."""

from __future__ import annotations

import base64
import binascii
import math
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from amc_archive_export._document import check_tensors, read_document
from amc_archive_export._pretty import pretty
from amc_plugins.document import Document, DocumentError, parse_strict
from amc_plugins.exporting import CheckFailed, Exporter, atomic_write, refuse_opaque, verify_reload
from amc_plugins.graph import TORCH_DTYPES, ReconstructedNetwork, describe, rebuild, tensors_of

__all__ = ["JsonExporter", "read_json", "write_json"]

FORMAT = "amc-network"
VERSION = [1, 0]
MAX_FILE_BYTES = 2**31


class JsonExporter(Exporter):
    """`.json`: `{"format", "version", "document": {...}, "tensors": "base64" | "none", "data": {name: base64}}`."""

    def export(self, network: ReconstructedNetwork, path: Path) -> None:
        """Write the file.

        Raises:
            UnsupportedOpError: the network has opaque nodes.
            DocumentError: its tensors make a file that would not be read.
        """
        refuse_opaque(network, ".json")
        tensors = tensors_of(network) if self.settings.tensors == "base64" else None
        size = sum(_encoded(tensor.nbytes) for tensor in (tensors or {}).values())
        if size > MAX_FILE_BYTES:
            raise DocumentError(
                f"the tensors of this network take {size} bytes of a .json file, at most {MAX_FILE_BYTES} are read",
                hint="write a .pkl, or the graph alone with tensors='none'",
            )
        write_json(path, describe(network), tensors, indent=self.settings.indent)

    def verify(self, path: Path, network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> None:
        """Reload and compare the outputs bit for bit; without tensors in the file, compare the graph. Raises `CheckFailed`."""
        document, tensors = read_json(path)
        if tensors is not None:
            verify_reload(rebuild(document, tensors), network, inputs)
        elif document.to_json() != describe(network).to_json():
            raise CheckFailed(f"{path} holds another graph than the network has")

    def load(self, path: Path) -> ReconstructedNetwork:
        """Rebuild the network. Raises `DocumentError` for anything that is not such a file, or has no tensors."""
        document, tensors = read_json(path)
        if tensors is None:
            raise DocumentError(f"{path} holds the graph without its tensors", hint="export it with tensors='base64'")
        return rebuild(document, tensors)

    def document(self, path: Path) -> Document:
        """The graph, also without tensors and of ops that have no handler here."""
        return read_json(path)[0]


def write_json(path: Path, document: Document, tensors: Mapping[str, Tensor] | None, *, indent: int = 2) -> None:
    """Write a document, and its tensors unless they are None.

    Raises:
        DocumentError: the tensors are not the document's.
    """
    plain: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "document": document.model_dump(mode="json"),
        "tensors": "none" if tensors is None else "base64",
    }
    if tensors is not None:
        check_tensors(document, tensors)
        plain["data"] = {spec.name: _encode(tensors[spec.name]) for spec in document.tensors}
    text = pretty(plain, indent)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: Path) -> tuple[Document, dict[str, Tensor] | None]:
    """Read a document and its tensors, None when the file has none.

    Raises:
        DocumentError: the file is not of this format, or inconsistent. A length is checked before a tensor is allocated.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError(f"{path} is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise DocumentError(f"{path} has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read")
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error}") from error
    plain = parse_strict(data)
    form, version = plain.get("format"), plain.get("version")
    if form != FORMAT or not isinstance(version, list) or [type(part) for part in version] != [int, int]:
        raise DocumentError(
            f"{path} has format {str(form)[:40]!r}, expected {FORMAT!r}", hint="only files of the `json` exporter load"
        )
    if version[0] != VERSION[0]:
        raise DocumentError(f"{path} has version {version}, this reader knows {VERSION}", hint="upgrade amc-archive-export")
    storage = plain.get("tensors")
    keys = {"format", "version", "document", "tensors"} | ({"data"} if storage == "base64" else set())
    if storage not in ("base64", "none") or plain.keys() != keys:
        raise DocumentError(f"{path} has the keys {sorted(plain)} and tensors={str(storage)[:40]!r}, expected {sorted(keys)}")
    document = read_document(plain["document"])
    if storage == "none":
        return document, None
    given = plain["data"]
    if not isinstance(given, dict) or given.keys() != {spec.name for spec in document.tensors}:
        raise DocumentError(f"{path}: `data` does not have exactly the tensors of the document's table")
    tensors = {spec.name: _decode(spec.name, given[spec.name], spec.dtype, spec.shape) for spec in document.tensors}
    check_tensors(document, tensors)
    return document, tensors


def _encoded(size: int) -> int:
    """Characters of the base64 of so many bytes."""
    return 4 * ((size + 2) // 3)


def _encode(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    _little_endian()
    return base64.b64encode(flat.view(torch.uint8).numpy().data).decode("ascii")


def _decode(name: str, text: object, dtype: str, shape: list[int]) -> Tensor:
    if math.prod(size or 1 for size in shape) >= 2**60:  # strides of an empty tensor overflow too
        raise DocumentError(f"the shape {tuple(shape)} of tensor `{name}` is too large")
    expected = math.prod(shape) * TORCH_DTYPES[dtype].itemsize
    if not isinstance(text, str) or len(text) != _encoded(expected):
        raise DocumentError(f"the data of tensor `{name}` is not the base64 of {expected} bytes, as {dtype} {shape} needs")
    _little_endian()
    try:
        data = bytearray(binascii.a2b_base64(text, strict_mode=True)) if text else bytearray()
    except (binascii.Error, ValueError) as error:
        raise DocumentError(f"the data of tensor `{name}` is not base64: {error}") from error
    if len(data) != expected:
        raise DocumentError(f"the data of tensor `{name}` has {len(data)} bytes, {dtype} {tuple(shape)} needs {expected}")
    if not data:
        return torch.empty(shape, dtype=TORCH_DTYPES[dtype])
    return torch.frombuffer(data, dtype=TORCH_DTYPES[dtype]).reshape(shape)


def _little_endian() -> None:
    if sys.byteorder != "little":
        raise DocumentError("tensors are stored little-endian, which this machine is not", hint="write and read .pkl here")
