"""The reader. It trusts nothing: lengths, checksums, text, schema, tensor table, topology and ops come before any mapping."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amc_plugins.document import Document, DocumentError, StrictJsonError, parse_strict
from amc_venus_export._bytes import TensorViews, check_byte_order
from amc_venus_export._crc import crc32
from amc_venus_export._encoding import check_scales, decode
from amc_venus_export._errors import VnModelError
from amc_venus_export._header import ALIGNMENT, HEADER_BYTES, VERSION, Header, read_header, round_up
from amc_venus_export._limits import DEFAULT_LIMITS, Limits
from amc_venus_export._model import VnModel
from amc_venus_export._ops import check_ops
from amc_venus_export._schema import Root, check_schema
from amc_venus_export._storage import Stored
from amc_venus_export._structure import check_table, check_topology

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["open_vnmodel", "parse_graph"]


def open_vnmodel(
    source: str | os.PathLike[str] | bytes,
    *,
    generic: bool = False,
    verify: bool = True,
    copy: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> VnModel:
    """Read a `.vnmodel` from a path (memory-mapped) or from bytes.

    Args:
        generic: look at any well-formed file, also with ops that have no handler here; such a file can be saved again, not run.
        verify: compare the crc32 of every tensor. Without it, opening does not touch the tensors' bytes.
        copy: read the tensors instead of mapping them. A file that is cut short while it is mapped ends the process (SIGBUS).
        limits: what the reader is willing to look at.

    Raises:
        VnModelError: the file is refused; `code` and `where` say why. The only error, whatever the bytes.
    """
    check_byte_order()
    if isinstance(source, bytes):
        whole = bytearray(source)

        def cut(start: int, count: int) -> bytes:
            return bytes(whole[start : start + count])

        return _open(len(whole), cut, lambda: whole, generic, verify, limits)
    path = Path(source)
    try:
        # A pipe would block the opening; what is opened is looked at again.
        if not stat.S_ISREG(path.stat().st_mode):
            raise VnModelError("FILE", f"{path} is no regular file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size

            def read(start: int, count: int) -> bytes:
                file.seek(start)
                return file.read(count)

            def data() -> Any:
                if copy:
                    file.seek(0)
                    return bytearray(file.read(size))
                return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)

            return _open(size, read, data, generic, verify, limits)
    except VnModelError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or the file shrank under the mapping
        raise VnModelError("FILE", f"{path} cannot be read: {error}") from error


def _open(
    size: int, read: Callable[[int, int], bytes], whole: Callable[[], Any], generic: bool, verify: bool, limits: Limits
) -> VnModel:
    header = read_header(read(0, HEADER_BYTES), size, limits)
    graph = read(HEADER_BYTES, header.graph_bytes)
    if crc32(graph) != header.graph_crc:
        raise VnModelError("GRAPH_CRC", "the graph is damaged", f"byte {HEADER_BYTES}")
    graph_end = HEADER_BYTES + header.graph_bytes
    if any(read(graph_end, header.data_offset - graph_end)):
        raise VnModelError("PADDING_NONZERO", "bytes between graph and data are not zero", f"byte {graph_end}")
    root, document = parse_graph(graph, header.data_bytes, limits, newer=header.minor > VERSION[1])
    if not generic:
        check_ops(document, root.model_base_size_hw, limits)
    tensors, stored = _tensors(root, header, whole() if header.data_bytes else b"", verify)
    # Which of the two starts the writer chose; where they fall together either gives these bytes again.
    align = ALIGNMENT if header.data_offset == round_up(graph_end, ALIGNMENT) else 4096
    return VnModel(document, tensors, root.model_id, root.model_base_size_hw, align, stored, not generic, limits)


def parse_graph(graph: bytes, data_bytes: int, limits: Limits, *, newer: bool = False) -> tuple[Root, Document]:
    """Everything about the graph part that needs neither handlers nor the data.

    Raises:
        VnModelError: see the codes of JSON, schema, tensor table and topology.
    """
    try:
        parsed = parse_strict(graph, max_depth=limits.json_depth, max_items=limits.json_items)
    except StrictJsonError as error:
        raise VnModelError(error.code, error.reason, "graph") from error
    root = check_schema(parsed, limits, newer=newer)
    check_table(root, data_bytes)
    check_topology(root.document)
    try:
        return root, Document.from_plain(root.document)
    except DocumentError as error:  # the core's own rules, should they ever ask for more
        raise VnModelError("SCHEMA_TYPE", str(error), "document") from error


def _tensors(root: Root, header: Header, buffer: Any, verify: bool) -> tuple[TensorViews, dict[str, Stored]]:
    """Views of the buffer by name, and what is stored in another form, whose tensors are copies."""
    view = memoryview(buffer)
    places: dict[str, tuple[int, str, list[int]]] = {}
    decoded: dict[str, Tensor] = {}
    stored: dict[str, Stored] = {}
    end = 0
    for i, (place, spec) in enumerate(zip(root.placements, root.document["tensors"], strict=True)):
        start = header.data_offset + place.offset
        if start > (last := header.data_offset + end) and any(view[last:start].tobytes()):
            raise VnModelError("PADDING_NONZERO", f"bytes before tensor `{place.name}` are not zero", f"tensors[{i}]")
        data = view[start : start + place.nbytes]
        if verify and crc32(data) != place.crc32:
            raise VnModelError("TENSOR_CRC", f"the bytes of tensor `{place.name}` are damaged", f"tensors[{i}]")
        # Another byte in a bool tensor is undefined behaviour in whatever computes with it.
        if spec["dtype"] == "bool" and bytes(data).translate(None, b"\0\1"):
            raise VnModelError("BOOL_VALUE", f"the bool tensor `{place.name}` holds bytes other than 0 and 1", f"tensors[{i}]")
        places[place.name] = start, spec["dtype"], spec["shape"]
        if place.storage is not None:
            one = stored[place.name] = Stored(place.storage, tuple(spec["shape"]), data)
            check_scales(one, place.name, f"tensors[{i}]")
            decoded[place.name] = decode(one)
        end = place.offset + place.nbytes
    return TensorViews(buffer, places, decoded), stored
