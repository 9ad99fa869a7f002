"""What the handlers of this package share: id tensors through changes of shape, and copies of the user's modules."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, Shape, Value
from amc_plugins.plugin import GraphError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["copied", "int_list", "kept_sizes", "literal", "reshaped"]


def reshaped(given: Tensor, shape: Shape, ids: ChannelIds) -> Tensor:
    """The ids in another shape, tied where a removal would not be whole slices of the result.

    Axes are laid out only together with those that they exchange entries with, and only where channels differ on them.
    """
    before, after = tuple(given.shape), tuple(shape)
    if before == after or 0 in before:
        return given.reshape(shape)
    differ = [ids.varies(given, axis) for axis in range(len(before))]
    small, level = list(after), []
    for old, new in _blocks(before, after):
        if not any(differ[axis] for axis in old):
            level += old
            for axis in new:
                small[axis] = 1
    laid = ids.cut(given, level).reshape(small)
    if laid.numel() == max(small, default=1):  # one axis at most: whatever goes is a slice
        return laid.expand(shape)
    split = [axis for axis in range(len(small)) if ids.varies(laid, axis)]
    if len(split) > 1 and max(split) < len(small) - 1:
        # The channel axis of a map becomes several, as in a channel shuffle: the longest leaves the finest choice.
        carrier = max(split, key=lambda axis: small[axis])
        first = ids.cut(laid, [axis for axis in split if axis != carrier])
        return ids.tie(laid, first.expand(small)).expand(shape)
    return ids.straight(laid.expand(shape))


def _blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of axes (old, new) with equally many entries: what a reshape does run by run."""
    i = j = 0
    while i < len(before) or j < len(after):
        first, second = i, j
        a = b = 1
        if i < len(before):
            a, i = before[i], i + 1
        if j < len(after):
            b, j = after[j], j + 1
        while a != b:
            if a < b:
                a, i = a * before[i], i + 1
            else:
                b, j = b * after[j], j + 1
        yield list(range(first, i)), list(range(second, j))


def kept_sizes(literals: Sequence[Any], new_shape: Sequence[int], shape: Sequence[int]) -> list[Any]:
    """Sizes after a removal: literal ones follow; one that the network computes and that shrank is inferred (-1).

    Raises:
        GraphError: more than one computed size shrank.
    """
    sizes = list(literals)
    for place, (literal, new, old) in enumerate(zip(literals, new_shape, shape, strict=True)):
        if new != old and literal != -1:
            sizes[place] = new if isinstance(literal, int) else -1
    if sizes.count(-1) > 1 and sizes != list(literals):
        raise GraphError(
            f"sizes {list(literals)} of a tensor {tuple(shape)} that becomes {tuple(new_shape)}: more than one is computed "
            "from what the removal changes",
            hint="write one of them as a number, or as -1",
        )
    return sizes


def restricted(*values: Kept) -> bool:
    """Whether any of these lost something."""
    return any(value.indices for value in values)


def literal(call: Call, name: str, value: Any) -> int:
    """An int that is known at capture. Raises Declined for anything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Declined(f"{call.target} with {value!r} for `{name}`")
    return int(value)


def int_list(call: Call, name: str, values: Any) -> list[Int]:
    """Ints, known or computed when the network runs. Raises Declined for anything else."""
    if not isinstance(values, list | tuple) or not all(isinstance(one, Int) for one in values):
        raise Declined(f"{call.target} with {values!r} for `{name}`")
    return list(values)


def copied(call: Call, *names: str) -> nn.Module:
    """A copy of the user's own module of this package; sizes that its call gave by keyword become its attributes."""
    made = copy.deepcopy(call.original)
    assert made is not None
    for name, value in call.kwargs.items():
        if isinstance(value, Value):
            continue
        if name not in names:
            raise Declined(f"{call.target} with `{name}=`")
        if value is not None:
            setattr(made, name, list(value) if isinstance(value, tuple) else value)
    return made
