"""A `.vnmodel` in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amc_venus_export._limits import DEFAULT_LIMITS, Limits
from amc_venus_export._storage import Stored

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.document import Document
    from amc_plugins.graph import ReconstructedNetwork

__all__ = ["VnModel"]


@dataclass
class VnModel:
    """What a file holds. Saving it unchanged gives the file it came from, byte by byte, also when its ops are unknown here.

    (A file of a higher minor version is the exception: its unknown fields are not kept.)
    """

    document: Document
    tensors: Mapping[str, Tensor]
    """By the names of `document.tensors`, in the dtypes of the document. Views of the mapped file (changing one changes a
    private copy of its pages), or copies where the file has another form.
    """
    model_id: int = 0
    model_base_size_hw: tuple[int, int] | None = None
    align: int = 64
    stored: Mapping[str, Stored] = field(default_factory=dict)
    """The bytes of the tensors that the file has as float16 or int8."""
    checked: bool = False
    """Whether every op has been checked against its handler (a strict opening)."""
    limits: Limits = field(default=DEFAULT_LIMITS, repr=False)

    def network(self) -> ReconstructedNetwork:
        """The network, in eval mode; its tensors are copies.

        Raises:
            VnModelError: an op is unknown here or does not accept its parameters, tensors or inputs.
        """
        from amc_venus_export._ops import build, check_ops

        if not self.checked:
            check_ops(self.document, self.model_base_size_hw, self.limits)
            self.checked = True
        return build(self.document, self.tensors)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it, each tensor in the form that the file had. Raises `VnModelError` as `write_vnmodel` does."""
        from amc_venus_export._encoding import decode, same_bits
        from amc_venus_export._writer import write_vnmodel

        # Encoding a decoded tensor may give other scales: what was not changed keeps its bytes.
        kept = {name: one for name, one in self.stored.items() if same_bits(decode(one), self.tensors[name])}
        write_vnmodel(
            path,
            self.document,
            self.tensors,
            stored={name: kept.get(name, one.storage) for name, one in self.stored.items()},
            model_id=self.model_id,
            model_base_size_hw=self.model_base_size_hw,
            align=self.align,
        )
