"""Channels through sums of products: one rule for matrix products, `einsum` and attention.

Axes are named by letters, as in `einsum`. A letter that is summed ties the channels of all operands along it: a channel
that is zero on one side contributes nothing, so the pair can go. A letter of the result keeps the channels of its operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.handlers import ChannelIds

__all__ = ["contracted"]


@dataclass
class _Operand:
    """The ids of one operand on the axes along which its size is not one."""

    ids: Tensor
    letters: list[str]
    carrier: str | None = None
    """The letter along which its channels differ."""

    def along(self, letter: str, ids: ChannelIds) -> Tensor:
        """One id per position on the axis of `letter`."""
        return ids.cut(self.ids, [axis for axis, one in enumerate(self.letters) if one != letter]).reshape(-1)


def contracted(operands: Sequence[Tensor], letters: Sequence[str], result: str, ids: ChannelIds, op: str) -> Tensor:
    """The ids of the result of a sum of products.

    Args:
        operands: id tensors.
        letters: per operand, a letter for each axis. An axis of size 1 is broadcast, whatever its letter.
        result: the letters of the result's axes; the others are summed.
        op: for reasons.
    """
    parts = [_operand(one, names, ids) for one, names in zip(operands, letters, strict=True)]
    _settle(parts, ids)
    for letter in dict.fromkeys("".join(letters)):
        if letter not in result:
            _summed([part for part in parts if letter in part.letters], letter, ids, op)
    kept: dict[str, Tensor] = {}
    for letter in result:
        holders = [part for part in parts if letter in part.letters]
        movers = [part for part in holders if part.carrier == letter]
        if movers and len(movers) < len(holders):
            for part in movers:
                ids.pin(part.ids, f"{op} lays them on what has no channels there")
        elif movers:
            kept[letter] = ids.tie(*(part.along(letter, ids) for part in movers))
    (shape,) = ids.output_shapes
    if not kept:
        return ids.fixed(f"made by {op} from all channels")
    main = max(kept, key=lambda letter: len(kept[letter]))
    for letter, vector in kept.items():
        if letter != main:
            ids.pin(vector, f"{op} makes entries that belong to two channels each")
    laid = [1] * len(shape)
    laid[result.index(main)] = len(kept[main])
    return kept[main].reshape(laid).expand(shape)


def _operand(given: Tensor, names: str, ids: ChannelIds) -> _Operand:
    """The operand without axes of size 1, with size 1 left on those along which channels do not differ."""
    letters = [name for size, name in zip(given.shape, names, strict=True) if size > 1]
    laid = ids.cut(given, [axis for axis in range(given.dim()) if not ids.varies(given, axis)])
    return _Operand(laid.reshape([size for size, name in zip(laid.shape, names, strict=True) if name in letters]), letters)


def _settle(parts: Sequence[_Operand], ids: ChannelIds) -> None:
    """Leave every operand with at most one letter along which its channels differ; ties what differed along others."""
    differing = [[name for axis, name in enumerate(part.letters) if part.ids.shape[axis] > 1] for part in parts]
    single = {names[0] for names in differing if len(names) == 1}
    for part, names in zip(parts, differing, strict=True):
        if not names:
            continue
        shared = [name for name in names if name in single]
        part.carrier = shared[0] if shared else max(names, key=lambda name: part.ids.shape[part.letters.index(name)])
        if len(names) > 1:
            first = ids.cut(part.ids, [axis for axis, name in enumerate(part.letters) if name != part.carrier])
            ids.tie(part.ids, first.expand(part.ids.shape))
            part.ids = first


def _summed(holders: Sequence[_Operand], letter: str, ids: ChannelIds, op: str) -> None:
    movers = [part for part in holders if part.carrier == letter]
    if len(movers) > 1 and len(movers) == len(holders):
        ids.tie(*(part.along(letter, ids) for part in movers))
    else:
        for part in movers:
            alone = len(holders) == 1
            ids.pin(part.ids, f"{op} sums over them" if alone else f"{op} multiplies them by what has no channels there")
