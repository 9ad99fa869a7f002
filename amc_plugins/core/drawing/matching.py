"""Which layer of a network each layer of its compressed form was made from. By names: free of torch."""

from __future__ import annotations

from collections.abc import Container

__all__ = ["made_from"]


def made_from(name: str, known: Container[str], origin: str | None = None) -> str | None:
    """The name in `known` that `name` stands for: itself, the layer that it is a part of (`conv1.0` of `conv1`), or its origin.

    None for a layer that was inserted.
    """
    while True:
        if name in known:
            return name
        parent, dot, index = name.rpartition(".")
        if not dot or not index.isdigit():
            return origin if origin is not None and origin in known else None
        name = parent
