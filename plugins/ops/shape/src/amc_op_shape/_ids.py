"""What the handlers of this package share: id tensors through changes of shape, and copies of the user's modules."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from amc_plugins.handlers import Call, ChannelIds, Declined, Int, Kept, Shape, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["copied", "int_list", "kept_sizes", "literal", "reshaped", "varies"]


def varies(ids: Tensor, axis: int) -> bool:
    """Whether channels differ along `axis`. Axes on which the id tensor is a broadcast view are not looked at."""
    for other in range(ids.dim()):
        if ids.stride(other) == 0 and ids.shape[other] > 1:
            ids = ids.narrow(other, 0, 1)
    return ids.shape[axis] > 1 and bool((ids != ids.narrow(axis, 0, 1)).any())


def reshaped(given: Tensor, shape: Shape, ids: ChannelIds) -> Tensor:
    """The ids in another shape, tied where a removal would not be whole slices of the result.

    Leading and trailing axes that stay as they are, and along which the ids are a broadcast view, are not laid out.
    """
    before, after = list(given.shape), list(shape)
    if 0 in before:
        return given.reshape(shape)
    lead = 0
    while lead < min(len(before), len(after)) and before[lead] == after[lead]:
        lead += 1
    trail = 0
    while trail < min(len(before), len(after)) - lead and before[-1 - trail] == after[-1 - trail]:
        trail += 1
    small = list(after)
    for axis in [*range(lead), *range(-trail, 0)]:
        if given.stride(axis) == 0:
            given = given.narrow(axis % len(before), 0, 1)
            small[axis] = 1
    laid = given.reshape(small)
    split = [axis for axis in range(lead, len(after) - trail) if varies(laid, axis)]
    if len(split) == 2 and trail and not any(varies(laid, axis) for axis in range(len(after)) if axis not in split):
        # The channel axis of a map becomes two, as in a channel shuffle: the longer one leaves the finer choice.
        short = min(split, key=lambda axis: after[axis])
        return ids.tie(*laid.split(1, short)).expand(shape)
    return ids.straight(laid.expand(shape))


def kept_sizes(literals: Sequence[Any], new_shape: Sequence[int], shape: Sequence[int]) -> list[Any]:
    """Literal sizes after a removal. What is computed or inferred (-1) when the network runs stays."""
    return [
        new if isinstance(literal, int) and literal != -1 and new != old else literal
        for literal, new, old in zip(literals, new_shape, shape, strict=True)
    ]


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
