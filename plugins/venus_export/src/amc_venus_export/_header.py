"""The 64 bytes at the front of a `.vnmodel`. Little-endian; docs/vnmodel.md has the table."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amc_venus_export._errors import VnModelError

if TYPE_CHECKING:
    from amc_venus_export._limits import Limits

__all__ = ["ALIGNMENT", "HEADER_BYTES", "MAGIC", "MAX_GAP", "VERSION", "Header", "read_header", "round_up"]

MAGIC = b"\x89VNM\r\n\x1a\n"
VERSION = (1, 0)
HEADER_BYTES = 64
ALIGNMENT = 64
MAX_GAP = 4096
"""The data may start at the next multiple of 64 or of 4096; a wider gap before it is refused."""
KNOWN_FLAGS = 0
MUST_KNOW_FLAGS = 0xFFFF
"""A reader that does not know a flag among the low 16 refuses the file; it ignores the high 16."""

_LAYOUT = struct.Struct("<8sHHIQQQQII8s")


def round_up(value: int, multiple: int) -> int:
    """The least multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Header:
    """Sizes in bytes, from the start of the file."""

    graph_bytes: int
    data_offset: int
    data_bytes: int
    file_bytes: int
    graph_crc: int
    minor: int = VERSION[1]
    flags: int = 0

    def pack(self) -> bytes:
        """The header with its own crc32 filled in."""
        sizes = (self.graph_bytes, self.data_offset, self.data_bytes, self.file_bytes)
        return seal(_LAYOUT.pack(MAGIC, VERSION[0], self.minor, self.flags, *sizes, self.graph_crc, 0, bytes(8)))


def seal(header: bytes) -> bytes:
    """Put the crc32 of a header into it (bytes 52 to 55)."""
    return header[:52] + struct.pack("<I", header_crc(header)) + header[56:]


def header_crc(header: bytes) -> int:
    """crc32 of the header without its own field."""
    return zlib.crc32(header[56:64], zlib.crc32(header[:52]))


def read_header(raw: bytes, size: int, limits: Limits) -> Header:
    """Check everything that the first 64 bytes say against the real size of the file.

    Raises:
        VnModelError: see the codes of the container.
    """
    if len(raw) < len(MAGIC) or raw[:8] != MAGIC:
        _refuse_magic(raw)
    if len(raw) < HEADER_BYTES:
        raise VnModelError("TRUNCATED_HEADER", f"the file has {len(raw)} bytes, a header has {HEADER_BYTES}", "byte 0")
    _, major, minor, flags, graph_bytes, data_offset, data_bytes, file_bytes, graph_crc, crc, zero = _LAYOUT.unpack(raw)
    if major != VERSION[0]:
        raise VnModelError(
            "VERSION_UNSUPPORTED", f"format version {major}.{minor}, this reader knows {VERSION[0]}.x", "byte 8",
            hint="upgrade amc-venus-export",
        )  # fmt: skip
    if crc != header_crc(raw):
        raise VnModelError("HEADER_CRC", "the header is damaged", "byte 52")
    if unknown := flags & MUST_KNOW_FLAGS & ~KNOWN_FLAGS:
        raise VnModelError("FLAG_UNKNOWN", f"flags {unknown:#06x} must be understood and are not", "byte 12")
    if any(zero):
        raise VnModelError("RESERVED_NONZERO", "the reserved bytes are not zero", "byte 56")
    if size < file_bytes:
        raise VnModelError("TRUNCATED", f"the file has {size} bytes, its header says {file_bytes}", "byte 40")
    if size > file_bytes:
        raise VnModelError("TRAILING_BYTES", f"the file has {size} bytes, its header says {file_bytes}", "byte 40")
    if graph_bytes > limits.graph_bytes:
        raise VnModelError("GRAPH_TOO_BIG", f"a graph of {graph_bytes} bytes, at most {limits.graph_bytes} are read", "byte 16")
    graph_end = HEADER_BYTES + graph_bytes
    if graph_end > size:
        raise VnModelError("GRAPH_RANGE", f"the graph ends at byte {graph_end} of {size}", "byte 16")
    if data_offset % ALIGNMENT:
        raise VnModelError("DATA_MISALIGNED", f"the data starts at byte {data_offset}, no multiple of {ALIGNMENT}", "byte 24")
    if not graph_end <= data_offset < graph_end + MAX_GAP or data_offset + data_bytes != size:
        where = f"{data_bytes} bytes of data from byte {data_offset}, in a file of {size} with a graph up to {graph_end}"
        raise VnModelError("DATA_RANGE", where, "byte 24")
    return Header(graph_bytes, data_offset, data_bytes, file_bytes, graph_crc, minor, flags)


def _refuse_magic(raw: bytes) -> None:
    if MAGIC.startswith(raw[:8]):  # also the empty file
        raise VnModelError("TRUNCATED_HEADER", f"the file has {len(raw)} bytes, a header has {HEADER_BYTES}", "byte 0")
    if raw[1:4] == MAGIC[1:4] and raw[0] in (0x89, 0x09):
        raise VnModelError(
            "BAD_MAGIC_TEXTMODE", "the file was transferred as text: its line ends or high bits were changed", "byte 0",
            hint="transfer it in binary mode",
        )  # fmt: skip
    raise VnModelError("BAD_MAGIC", "not a .vnmodel", "byte 0")
