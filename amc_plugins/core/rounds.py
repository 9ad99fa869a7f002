"""How often a recipe compresses, how much each time, and which round's network is the result. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["ENOUGH", "planned_rounds", "remaining", "share_of_round"]

ENOUGH = 0.01
"""A round is not worth its time for a smaller share of the network that it starts from."""


def planned_rounds(total: float, until: float) -> int:
    """The fewest rounds, each removing the share `total` of what is left, that remove the share `until` of the original.

    Raises:
        ValueError: no number of rounds does.
    """
    if not (0.0 < total < 1.0 and 0.0 < until < 1.0):
        raise ValueError(f"shares between 0 and 1 are needed; given were {total:g} and {until:g}")
    return max(1, math.ceil(math.log(1.0 - until) / math.log(1.0 - total) - 1e-9))


def share_of_round(total: float, until: float, left: float, *, last: bool) -> float | None:
    """What a round removes of the network that it starts from; None when the aim is reached.

    Args:
        total: the share that a round removes at most; the last one removes what is missing, whatever that is.
        until: the share of the original to remove in all.
        left: the share of the original that the earlier rounds left.
        last: no further round is planned.
    """
    missing = 1.0 - (1.0 - until) / left
    if missing <= ENOUGH:
        return None
    return missing if last else min(total, missing)


def remaining(steps: Sequence[Mapping[str, Any]]) -> float:
    """The share of what the budget counts that the compressions among the finished steps left."""
    spent = [step["detail"]["budget"] for step in steps if step["kind"] == "compress"]
    return math.prod(float(one["after"]) / float(one["before"]) for one in spent if one["before"])
