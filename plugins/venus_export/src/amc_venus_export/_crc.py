"""crc32 as zlib defines it. ISA-L computes it several times faster where there is a wheel of it; the values are the same."""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:  # a machine that ISA-L has no wheel for
    from zlib import crc32

__all__ = ["crc32"]
