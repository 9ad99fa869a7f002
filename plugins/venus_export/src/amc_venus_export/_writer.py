"""The writer. What it writes has passed the reader's own checks of the graph."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic_core import PydanticSerializationError

from amc_plugins.document import Document, DocumentError
from amc_plugins.exporting import atomic_write
from amc_plugins.graph import TORCH_DTYPES
from amc_venus_export._bytes import bytes_of, check_byte_order
from amc_venus_export._crc import crc32
from amc_venus_export._encoding import encode
from amc_venus_export._errors import VnModelError
from amc_venus_export._header import ALIGNMENT, HEADER_BYTES, MAX_GAP, Header, round_up
from amc_venus_export._limits import DEFAULT_LIMITS
from amc_venus_export._reader import parse_graph
from amc_venus_export._storage import Storage, Stored

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["vnmodel_parts", "write_vnmodel"]


def write_vnmodel(
    path: str | os.PathLike[str],
    document: Document,
    tensors: Mapping[str, Tensor],
    *,
    stored: Mapping[str, Storage | Stored] | None = None,
    model_id: int = 0,
    model_base_size_hw: tuple[int, int] | None = None,
    align: int = 64,
) -> None:
    """Write a complete document and its tensors, whole or not at all. Equal contents give equal bytes.

    Args:
        stored: float32 tensors, by name, that take another form in the file, or their bytes in it.
        model_base_size_hw: height and width that the model is meant for.
        align: 64 or 4096, where the data starts.

    Raises:
        VnModelError: the document could not be read back, or the tensors are not its own.
    """
    size, parts = vnmodel_parts(
        document, tensors, stored=stored, model_id=model_id, model_base_size_hw=model_base_size_hw, align=align
    )
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        _reserve(file.fileno(), size)
        for part in parts:
            file.write(part)


def _reserve(file: int, size: int) -> None:
    """Have the file laid out at once where the file system can: a full disk is known first, and writing is faster."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV):  # this file system cannot
            raise


def vnmodel_parts(
    document: Document,
    tensors: Mapping[str, Tensor],
    *,
    stored: Mapping[str, Storage | Stored] | None = None,
    model_id: int = 0,
    model_base_size_hw: tuple[int, int] | None = None,
    align: int = 64,
) -> tuple[int, Iterator[bytes | memoryview]]:
    """The bytes of the file, and its pieces in order. Raises as `write_vnmodel`, before there are pieces."""
    check_byte_order()
    if align not in (ALIGNMENT, MAX_GAP):
        raise VnModelError("DATA_MISALIGNED", f"align={align}, expected {ALIGNMENT} or {MAX_GAP}")
    forms = {name: one if isinstance(one, Storage) else one.storage for name, one in (stored or {}).items()}
    views = _views(document, tensors, stored or {})
    placements: list[dict[str, object]] = []
    end = 0
    for name, view in views.items():
        offset = round_up(end, ALIGNMENT)
        placement = {"name": name, "offset": offset, "nbytes": view.nbytes, "crc32": crc32(view)}
        placements.append({**placement, "quant": forms[name].plain()} if name in forms else placement)
        end = offset + view.nbytes
    graph = _graph(_document_text(document), placements, model_id, model_base_size_hw)
    parse_graph(graph, end, DEFAULT_LIMITS)
    graph_end = HEADER_BYTES + len(graph)
    data_offset = round_up(graph_end, align)
    header = Header(len(graph), data_offset, end, data_offset + end, crc32(graph))

    def pieces() -> Iterator[bytes | memoryview]:
        yield header.pack()
        yield graph
        yield bytes(data_offset - graph_end)
        at = 0
        for view in views.values():
            yield bytes(round_up(at, ALIGNMENT) - at)
            yield view
            at = round_up(at, ALIGNMENT) + view.nbytes

    return data_offset + end, pieces()


def _views(document: Document, tensors: Mapping[str, Tensor], stored: Mapping[str, Storage | Stored]) -> dict[str, memoryview]:
    names = [spec.name for spec in document.tensors]
    if len(set(names)) != len(names) or set(names) != set(tensors) or not set(stored) <= set(names):
        odd = sorted(set(names) ^ (set(tensors) | set(stored)))[:3]
        raise VnModelError(
            "NOT_IN_TABLE", f"the tensors given are not those of the document's table: {', '.join(odd) or 'a name twice'}"
        )
    views: dict[str, memoryview] = {}
    for spec in document.tensors:
        tensor = tensors[spec.name]
        if tensor.dtype != TORCH_DTYPES[spec.dtype] or list(tensor.shape) != spec.shape:
            message = f"`{spec.name}` is {tensor.dtype} {list(tensor.shape)}, the document says {spec.dtype} {spec.shape}"
            raise VnModelError("NOT_IN_TABLE", message)
        form = stored.get(spec.name)
        if form is None:
            views[spec.name] = bytes_of(tensor)
        elif spec.dtype != "f32":
            raise VnModelError("QUANT_DTYPE", f"`{spec.name}` is {spec.dtype} and was to be stored in another form")
        else:
            views[spec.name] = memoryview((encode(tensor, form) if isinstance(form, Storage) else form).data)
    return views


def _document_text(document: Document) -> str:
    try:
        return document.to_json()
    except (DocumentError, PydanticSerializationError) as error:
        raise VnModelError("PARAM_FORM", str(error)) from error
    except (TypeError, ValueError) as error:  # json's refusals: NaN, what is no JSON
        raise VnModelError("NUMBER_NONFINITE", f"the document is no JSON: {error}") from error


def _graph(
    document: str, placements: list[dict[str, object]], model_id: int, model_base_size_hw: tuple[int, int] | None
) -> bytes:
    base = None if model_base_size_hw is None else list(model_base_size_hw)
    try:
        front = json.dumps({"model_id": model_id, "model_base_size_hw": base}, separators=(",", ":"), allow_nan=False)
        table = json.dumps(placements, separators=(",", ":"), ensure_ascii=False)
        return f'{front[:-1]},"document":{document},"tensors":{table}}}'.encode()
    except UnicodeEncodeError as error:
        raise VnModelError("BAD_CHAR", f"a text of the document has a lone surrogate: {error}") from error
    except (TypeError, ValueError) as error:
        raise VnModelError("NUMBER_NONFINITE", f"the graph is no JSON: {error}") from error
