"""The graph document for plugin authors: its models, its JSON and the helpers over them. Free of torch."""

from __future__ import annotations

from amc_plugins.core.document import (
    FORMAT,
    Document,
    InputSpec,
    Node,
    Ref,
    TensorSpec,
    from_plain,
    map_tree,
    refs_in,
    to_plain,
    tree_leaves,
)
from amc_plugins.core.errors import DocumentError
from amc_plugins.core.strict_json import StrictJsonError, parse_strict

__all__ = [
    "FORMAT",
    "Document",
    "DocumentError",
    "InputSpec",
    "Node",
    "Ref",
    "StrictJsonError",
    "TensorSpec",
    "from_plain",
    "map_tree",
    "parse_strict",
    "refs_in",
    "to_plain",
    "tree_leaves",
]
