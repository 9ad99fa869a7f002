"""Forms in which the tensors of a file are smaller than in memory. Free of torch; `_encoding` computes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from amc_venus_export._header import ALIGNMENT, round_up

__all__ = ["SCHEMES", "Scheme", "Storage", "Stored"]

Scheme = Literal["float16", "int8"]
SCHEMES: tuple[str, ...] = get_args(Scheme)


@dataclass(frozen=True)
class Storage:
    """How a float32 tensor is stored: as float16, or as int8 with one float32 scale per index of `axis` (symmetric)."""

    scheme: Scheme
    axis: int = 0
    """Of int8 only."""

    def scales_at(self, shape: Sequence[int]) -> int:
        """The byte at which the scales of an int8 tensor start."""
        return round_up(math.prod(shape), ALIGNMENT)

    def nbytes(self, shape: Sequence[int]) -> int:
        """Bytes in the file of a tensor of this shape."""
        if self.scheme == "float16":
            return 2 * math.prod(shape)
        return self.scales_at(shape) + 4 * shape[self.axis]

    def plain(self) -> dict[str, object]:
        """The field `quant` of a placement."""
        return {"scheme": self.scheme} if self.scheme == "float16" else {"scheme": self.scheme, "axis": self.axis}


@dataclass(frozen=True)
class Stored:
    """A float32 tensor as its bytes in a file."""

    storage: Storage
    shape: tuple[int, ...]
    data: memoryview | bytes
