"""Nested arguments and results: mapping over them, and their trees of value names (`amc_plugins.core.document.Tree`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from amc_plugins.core.errors import CaptureError
from amc_plugins.core.tracing import TracedFloat, TracedInt

__all__ = ["among", "argument_names", "leaves", "map_leaves", "tensors_in", "to_tree"]


def map_leaves(item: Any, convert: Callable[[Any], Any]) -> Any:
    """Map over tuples, lists, dicts and slices. Named tuples stay what they are, sizes become plain tuples."""
    if isinstance(item, slice):
        return slice(*(map_leaves(one, convert) for one in (item.start, item.stop, item.step)))
    if isinstance(item, dict):
        return {key: map_leaves(one, convert) for key, one in item.items()}
    if isinstance(item, list):
        return [map_leaves(one, convert) for one in item]
    if isinstance(item, tuple):
        mapped = (map_leaves(one, convert) for one in item)
        # past its own constructor, which may look at what it is given
        return tuple.__new__(type(item), mapped) if hasattr(item, "_fields") else tuple(mapped)
    return convert(item)


def leaves(item: Any) -> Iterator[Any]:
    """The leaves that `map_leaves` visits, in its order."""
    if isinstance(item, slice):
        item = (item.start, item.stop, item.step)
    if isinstance(item, Mapping):
        for one in item.values():
            yield from leaves(one)
    elif isinstance(item, list | tuple):
        for one in item:
            yield from leaves(one)
    else:
        yield item


def tensors_in(item: Any) -> list[Tensor]:
    """The tensors among the leaves, in order."""
    return [one for one in leaves(item) if isinstance(one, Tensor)]


def among(item: Any, tensors: list[Tensor]) -> bool:
    """Whether `item` is one of `tensors`, by identity."""
    return any(item is one for one in tensors)


def argument_names(model: nn.Module, count: int) -> list[str]:
    """Names of the first `count` positional arguments of a network's forward."""
    names: list[str] = []
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            names.extend(f"{parameter.name}_{index}" for index in range(count - len(names)))
    return names[:count] + [f"input_{index}" for index in range(len(names), count)]


def to_tree(item: Any, leaf: Callable[[str, Any], str], stem: str) -> Any:
    """The tree of a nested value; `leaf(stem, tensor)` names each tensor or computed int.

    Raises:
        CaptureError: something in it is no tensor, scalar, list, tuple or mapping.
    """
    if isinstance(item, Tensor | TracedInt):
        return leaf(stem, item)
    if item is None:
        return None
    if isinstance(item, bool | int | float | str):
        return {"const": item.plain() if isinstance(item, TracedFloat) else item}
    if isinstance(item, Mapping):
        return {"dict": {str(key): to_tree(one, leaf, f"{stem}.{key}") for key, one in item.items()}}
    if isinstance(item, list):
        return {"list": [to_tree(one, leaf, f"{stem}.{index}") for index, one in enumerate(item)]}
    if isinstance(item, tuple):
        return {"tuple": [to_tree(one, leaf, f"{stem}.{index}") for index, one in enumerate(item)]}
    raise CaptureError(
        f"`{stem}` holds a {type(item).__name__}, which a network's inputs and outputs cannot hold",
        hint="return tensors, scalars, lists, tuples or dictionaries of them",
    )
