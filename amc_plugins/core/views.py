"""Tensors that share memory: how one is a view of another, and what becomes of the base when the view is written into.

A record holds no writing in place. Writing into a view is recorded as a new value of the view, and from it a new value
of its base: `x[:, :2].mul_(2)` as a slice, a product, and a copy of x with the product in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amc_plugins.core.structure import among, map_leaves

__all__ = ["Link", "memory", "place", "shared_base", "spelled", "write_back", "writes", "written_into"]

_SAME = frozenset({"detach", "data"})
_SHAPES = frozenset({"view", "reshape", "view_as", "reshape_as", "flatten", "ravel", "unflatten", "squeeze", "unsqueeze"})
_ORDERS = frozenset(
    {"permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "adjoint", "numpy_T", "H", "mH"}
)
_PIECES = frozenset({"chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit"})


@dataclass
class Link:
    """The call that made a view of `base`."""

    base: Tensor
    view: Tensor
    """Held, so that its id stays its own."""
    func: Callable[..., Any] | None
    """None for the call of a module."""
    name: str
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    results: list[Tensor]
    """All tensors that the call gave."""
    again: Callable[[], None]
    """Records the call once more, for the present value of `base`."""


def memory(tensor: Tensor) -> int | None:
    """Which block of memory a tensor looks at; None for tensors without one (sparse ones)."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return None


def place(tensor: Tensor) -> Hashable:
    """What two tensors have in common that are the same entries of the same memory; None for tensors without memory."""
    block = memory(tensor)
    if block is None:
        return None
    return block, tensor.storage_offset(), tuple(map(int, tensor.size())), tensor.stride(), tensor.dtype


def shared_base(made: Tensor, given: list[Tensor]) -> Tensor | None:
    """The first of `given` whose memory `made` looks at; None if it has memory of its own, or is one of them."""
    block = memory(made)
    if block is None or any(made is one for one in given):
        return None
    return next((one for one in given if memory(one) == block), None)


def write_back(link: Link, view: Tensor) -> tuple[str, tuple[Any, ...]] | None:
    """The function, and its arguments, that make the base's new value from the written `view`; None if there is none."""
    parts = [part for part in link.name.split(".") if part != "__get__"]
    name, base = parts[-1], link.base
    args, kwargs = link.arguments
    if name in _SAME:
        return "torch.Tensor.contiguous", (view,)
    if name in _ORDERS and link.func is not None:
        order = _order(link.func, args, kwargs, base)
        return "torch.Tensor.permute", (view, [order.index(axis) for axis in range(len(order))])
    if name in _PIECES:
        return "torch.cat", (link.results, _argument(args, kwargs, 2, "dim", 0))
    if name == "unbind":
        return "torch.stack", (link.results, _argument(args, kwargs, 1, "dim", 0))
    if name == "__getitem__":
        return "torch.Tensor.__setitem__", (base, args[1], view)
    if name == "select":
        dim, index = (_argument(args, kwargs, at, one, None) for at, one in ((1, "dim"), (2, "index")))
        return "torch.Tensor.__setitem__", (base, _on_axis(dim, index), view)
    if name == "narrow":
        dim, start, length = (_argument(args, kwargs, at, one, None) for at, one in ((1, "dim"), (2, "start"), (3, "length")))
        return "torch.Tensor.__setitem__", (base, _on_axis(dim, slice(start, start + length)), view)
    if name in _SHAPES or _in_one_run(base, view):
        return "torch.Tensor.reshape_as", (view, base)
    return None


def written_into(changed: list[Tensor], likely: list[Tensor]) -> list[Tensor]:
    """Of the tensors whose memory changed, those that were written into: others are views of the same memory."""
    certain = [one for one in changed if among(one, likely)]
    blocks = {memory(one) for one in certain}
    return certain + [one for one in changed if memory(one) not in blocks]


def writes(name: str) -> bool:
    """Whether a function of this name changes its first argument."""
    last = name.rpartition(".")[2]
    return last == "__setitem__" or (last.startswith("__i") and last.endswith("__")) or (last.endswith("_") and last[-2] != "_")


def spelled(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """A call by the function that it is: `x[mask] = number`, for a mask of x's shape, is `x.masked_fill_(mask, number)`."""
    if name == "torch.Tensor.__setitem__" and len(args) == 3 and not kwargs:
        base, mask, value = args
        one = value.dim() == 0 if isinstance(value, Tensor) else isinstance(value, bool | int | float)
        if one and isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == base.shape:
            return "torch.Tensor.masked_fill_", args, kwargs
    return name, args, kwargs


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str, default: Any) -> Any:
    return args[at] if len(args) > at else kwargs.get(name, default)


def _on_axis(dim: int, item: Any) -> tuple[Any, ...]:
    return (*(slice(None),) * dim, item) if dim >= 0 else (Ellipsis, item, *(slice(None),) * (-dim - 1))


def _order(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], base: Tensor) -> list[int]:
    """Which axis of the base each axis of the result is, tried on a tensor whose sizes tell its axes apart."""
    probe = torch.empty(tuple(range(base.dim())), device="meta")
    moved = map_leaves((args, kwargs), lambda item: probe if item is base else item)
    return list(func(*moved[0], **moved[1]).shape)


def _in_one_run(base: Tensor, view: Tensor) -> bool:
    """Whether both are the same entries in the same order: what a reshape gives, whoever made it."""
    same = base.numel() == view.numel() and base.storage_offset() == view.storage_offset()
    return same and base.is_contiguous() and view.is_contiguous()
