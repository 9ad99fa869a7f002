"""Emitters of pooling: windows, global, and to a chosen size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from amc_onnx_export._conv import batched
from amc_onnx_export._graph import Dim
from amc_onnx_export._op import Emitter, Name, Op
from amc_onnx_export._resize import mixed, padded

__all__ = ["EMITTERS", "adaptive"]


def _each(value: Any, rank: int) -> list[Any]:
    given = list(value) if isinstance(value, list | tuple) else [value]
    return given * rank if len(given) == 1 else given


def _window(op: Op, rank: int) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """Kernel, stride, padding before and after; None for windows of a computed size that are the whole input.

    `ceil_mode` is padding behind, where the sizes are known: engines round it in different ways.
    """
    sizes = [op.dim(one) for one in _each(op.params.kernel_size, rank)]
    spatial, made = op.x.shape[-rank:], op.out.shape[-rank:]
    if any(isinstance(one, str) for one in sizes):
        whole = all(one == 1 for one in made) and not any(_each(op.params.padding, rank))
        return None if whole else op.refuse("windows whose size is known at run time only")
    kernel = [one for one in sizes if isinstance(one, int)]
    stride = [op.known(one, "the stride") for one in _each(op.params.stride, rank)]
    padding = _each(op.params.padding, rank)
    dilation = _each(getattr(op.params, "dilation", 1), rank)
    after = list(padding)
    if op.params.ceil_mode:
        for axis in range(rank):
            size, out = spatial[axis], made[axis]
            if size is None or out is None:
                continue  # then the attribute says it
            reach = (out - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1
            after[axis] = max(padding[axis], reach - size - padding[axis])
    return kernel, stride, padding, after


def _rounding_up(op: Op, rank: int) -> int | None:
    """The attribute `ceil_mode`: where a size is known at run time only."""
    return 1 if op.params.ceil_mode and None in op.x.shape[-rank:] else None


def _max_pool(rank: int) -> Emitter:
    def emit(op: Op) -> str:
        window = _window(op, rank)
        if window is None:
            return op.reduce("Max", op.x, list(range(op.x.rank - rank, op.x.rank)))
        kernel, stride, before, after = window
        dilations = _each(op.params.dilation, rank)
        return batched(
            op,
            rank,
            lambda x: op.add(
                "MaxPool",
                x,
                kernel_shape=kernel,
                strides=stride,
                pads=[*before, *after],
                dilations=dilations,
                ceil_mode=_rounding_up(op, rank),
            ),
        )

    return emit


def _avg_pool(rank: int) -> Emitter:
    """torch counts its own padding in the divisor, and not what `ceil_mode` adds: where both are, the former is written out."""

    def emit(op: Op) -> str:
        window = _window(op, rank)
        if window is None:
            return op.reduce("Mean", op.x, list(range(op.x.rank - rank, op.x.rank)))
        kernel, stride, before, after = window
        override = getattr(op.params, "divisor_override", None)
        counted = op.params.count_include_pad or override is not None
        added = [one - two for one, two in zip(after, before, strict=True)]

        up = _rounding_up(op, rank)
        if up and counted and any(before):
            op.refuse("`ceil_mode` with padding that counts, where a size is known at run time only")

        def compute(x: Name) -> str:
            pads, include = [*before, *after], counted and not up
            if counted and any(added) and any(before) and override is None:
                x = padded(op, x, rank + 2, {axis + 2: (one, one) for axis, one in enumerate(before)}, "constant")
                pads, include = [*[0] * rank, *added], False
            elif counted and any(added) and override is None:
                include = False
            return op.add(
                "AveragePool",
                x,
                kernel_shape=kernel,
                strides=stride,
                pads=pads,
                count_include_pad=int(include),
                ceil_mode=up,
            )

        mean = batched(op, rank, compute)
        return mean if override is None else op.add("Mul", mean, op.constant(math.prod(kernel) / override))

    return emit


def adaptive(op: Op, wanted: Sequence[Dim | None], largest: bool) -> str:
    """Means, or largest entries, of windows over the last axes that give the sizes `wanted`; None keeps a size."""
    rank = len(wanted)
    kind = "Max" if largest else "Mean"
    first = op.x.rank - rank
    if all(one == 1 for one in wanted):
        return batched(op, rank, lambda x: op.add("GlobalMaxPool" if largest else "GlobalAveragePool", x))
    sizes: list[tuple[int, int] | None] = []
    for axis, want in enumerate(wanted):
        size = op.x.shape[first + axis]
        if want is None or want == size:
            sizes.append(None)
        elif want == 1:
            sizes.append((0, 1))
        elif not isinstance(want, int) or size is None:
            op.refuse("a chosen size where one is known at run time only")
        else:
            sizes.append((size, want))
    even = [one is not None and one[0] and one[0] % one[1] == 0 for one in sizes]
    if all(even):
        kernel = [one[0] // one[1] for one in sizes if one is not None]
        pool = "MaxPool" if largest else "AveragePool"
        return batched(op, rank, lambda x: op.add(pool, x, kernel_shape=kernel, strides=kernel))
    result: Name = op.x
    for axis, one in enumerate(sizes, first):
        if one is None:
            continue
        if one == (0, 1):
            result = op.reduce(kind, result, [axis])
        elif largest:
            result = op.reduce("Max", op.add("Gather", result, op.constant(_places(*one)), axis=axis), [axis + 1], keep=False)
        else:
            result = mixed(op, result, axis, _shares(*one).to(op.x.dtype))
    return result if isinstance(result, str) else result.name


def _bounds(size: int, want: int) -> list[tuple[int, int]]:
    return [(place * size // want, -(-(place + 1) * size // want)) for place in range(want)]


def _places(size: int, want: int) -> torch.Tensor:
    """(want, longest): the places of each window, the last one repeated where a window is shorter."""
    longest = max(end - start for start, end in _bounds(size, want))
    return torch.tensor([[min(start + step, end - 1) for step in range(longest)] for start, end in _bounds(size, want)])


def _shares(size: int, want: int) -> torch.Tensor:
    """(size, want): what each entry adds to each mean."""
    shares = torch.zeros(size, want, dtype=torch.float64)
    for place, (start, end) in enumerate(_bounds(size, want)):
        shares[start:end, place] = 1.0 / (end - start)
    return shares


def _adaptive(rank: int, largest: bool) -> Emitter:
    def emit(op: Op) -> str:
        wanted = [None if one is None else op.dim(one) for one in _each(op.params.output_size, rank)]
        return adaptive(op, wanted, largest)

    return emit


EMITTERS: dict[str, Emitter] = {
    **{f"vn.max_pool{rank}d": _max_pool(rank) for rank in (1, 2, 3)},
    **{f"vn.avg_pool{rank}d": _avg_pool(rank) for rank in (1, 2, 3)},
    **{f"vn.adaptive_avg_pool{rank}d": _adaptive(rank, False) for rank in (1, 2, 3)},
    **{f"vn.adaptive_max_pool{rank}d": _adaptive(rank, True) for rank in (1, 2, 3)},
}
