"""Guards: what a plugin is given stays as it is, and so do the global random states."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["assert_untouched", "fingerprint", "global_random_states", "same_tensors", "steady_random_states"]


def global_random_states() -> tuple[object, ...]:
    """The states of Python's, numpy's and torch's global generators, comparable by `==`."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return random.getstate(), name, np.asarray(keys).tolist(), *rest, torch.get_rng_state().tolist()


@contextmanager
def steady_random_states(what: str) -> Iterator[None]:
    """The block leaves the global random states alone. Raises AssertionError naming `what`."""
    before = global_random_states()
    yield
    for library, old, new in zip(("random", "numpy.random", "numpy.random"), before, global_random_states(), strict=False):
        assert old == new, f"{what} changes the global state of {library}; use a generator made from the seed"
    assert before == global_random_states(), f"{what} changes torch's global random state; use a torch.Generator"


def fingerprint(item: Any) -> Any:
    """A copy of everything in a network, or in nested data, that a plugin could change."""
    if isinstance(item, nn.Module):
        graph: Any = getattr(item, "graph", None)
        return (
            graph.to_json() if hasattr(graph, "to_json") else None,
            {name: (tensor.detach().clone(), tensor.requires_grad) for name, tensor in item.state_dict(keep_vars=True).items()},
            {name: one.training for name, one in item.named_modules()},
            {name: tensor.grad is None for name, tensor in item.named_parameters()},
            sorted(name for name, one in item.named_modules() if _hooks(one)),
        )
    if isinstance(item, Tensor):
        return item.detach().clone(), item.requires_grad
    if isinstance(item, list | tuple):
        return [fingerprint(one) for one in item]
    if isinstance(item, dict):
        return {name: fingerprint(one) for name, one in item.items()}
    return item


def _hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


_PARTS = ("document", "tensors or their `requires_grad`", "training mode", "gradients", "hooks")


def assert_untouched(item: Any, before: Any, what: str) -> None:
    """`item` is as it was when `before = fingerprint(item)` was taken. Raises AssertionError naming `what` and the part."""
    after = fingerprint(item)
    if isinstance(item, nn.Module):
        for part, old, new in zip(_PARTS, before, after, strict=True):
            assert _equal(old, new), f"{what}: its {part} changed"
    assert _equal(before, after), f"{what} changed"


def same_tensors(a: nn.Module, b: nn.Module) -> str | None:
    """None when two modules have the same tensors bit for bit, else the name of the first that differs."""
    ours, theirs = a.state_dict(), b.state_dict()
    if list(ours) != list(theirs):
        return next(iter(set(ours) ^ set(theirs)), "the order of the tensors")
    return next((name for name in ours if not _equal(ours[name], theirs[name])), None)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        return torch.equal(*(one.detach().contiguous().reshape(-1).view(torch.uint8) for one in (a, b)))  # NaN equals itself
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_equal(one, other) for one, other in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_equal(a[name], b[name]) for name in a)
    return bool(a == b)
