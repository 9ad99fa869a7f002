"""Channel ids of ops that mix the entries along some axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from amc_plugins.handlers import ChannelIds

__all__ = ["merged", "varies"]


def varies(ids: Tensor, axis: int) -> bool:
    """Whether channels differ along `axis`. Axes on which the id tensor is a broadcast view are not looked at."""
    for other in range(ids.dim()):
        if ids.stride(other) == 0 and ids.shape[other] > 1:
            ids = ids.narrow(other, 0, 1)
    return ids.shape[axis] > 1 and bool((ids != ids.narrow(axis, 0, 1)).any())


def merged(given: Tensor, axes: list[int], ids: ChannelIds, why: str) -> Tensor:
    """The ids with `axes` cut to size 1, for an op that makes each output entry from many along `axes`.

    An op that so makes one entry of several channels pins them: none of them can go alone.
    """
    if any(varies(given, axis) for axis in axes):
        ids.pin(given, why)
    for axis in axes:
        given = given.narrow(axis, 0, 1)
    return given
