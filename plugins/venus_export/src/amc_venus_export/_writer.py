"""The writer. What it writes has passed the reader's own checks of the graph."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from pydantic_core import PydanticSerializationError

from amc_plugins.document import Document, DocumentError
from amc_plugins.exporting import atomic_write
from amc_plugins.graph import TORCH_DTYPES
from amc_venus_export._bytes import bytes_of, check_byte_order
from amc_venus_export._crc import crc32
from amc_venus_export._encoding import encode
from amc_venus_export._errors import VnModelError
from amc_venus_export._file import write_pieces
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
    layout = _laid_out(document, tensors, stored=stored, model_id=model_id, model_base_size_hw=model_base_size_hw, align=align)
    with atomic_write(path) as temporary, ThreadPoolExecutor(1) as beside:
        copying = Event()
        written = beside.submit(write_pieces, temporary, layout.size, layout.pieces(), copying.set)
        written.add_done_callback(lambda _: copying.set())  # also when there is nothing to copy, or no place for it
        copying.wait()  # what checks holds Python's lock, what copies does not: it must have begun
        layout.check()  # a file that fails never gets its name
        written.result()


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
    layout = _laid_out(document, tensors, stored=stored, model_id=model_id, model_base_size_hw=model_base_size_hw, align=align)
    layout.check()
    return layout.size, layout.pieces()


@dataclass(frozen=True)
class _Layout:
    """A file that is not written yet."""

    graph: bytes
    views: list[memoryview]
    data_offset: int
    data_bytes: int

    @property
    def size(self) -> int:
        return self.data_offset + self.data_bytes

    def check(self) -> None:
        """The reader's own checks of the graph. Raises `VnModelError` for what it would refuse."""
        parse_graph(self.graph, self.data_bytes, DEFAULT_LIMITS)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of the file in order; none is empty."""
        yield Header(len(self.graph), self.data_offset, self.data_bytes, self.size, crc32(self.graph)).pack()
        yield self.graph
        at = HEADER_BYTES + len(self.graph)
        yield from _zeros(self.data_offset - at)
        at = 0
        for view in self.views:
            start = round_up(at, ALIGNMENT)
            yield from _zeros(start - at)
            if view.nbytes:
                yield view
            at = start + view.nbytes


def _zeros(count: int) -> Iterator[bytes]:
    if count:
        yield bytes(count)


def _laid_out(
    document: Document,
    tensors: Mapping[str, Tensor],
    *,
    stored: Mapping[str, Storage | Stored] | None,
    model_id: int,
    model_base_size_hw: tuple[int, int] | None,
    align: int,
) -> _Layout:
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
    return _Layout(graph, [*views.values()], round_up(HEADER_BYTES + len(graph), align), end)


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
