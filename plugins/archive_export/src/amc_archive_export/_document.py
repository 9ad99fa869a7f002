"""What both archives share: a document from untrusted JSON, and that tensors are what the document says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from amc_plugins.document import Document, DocumentError
from amc_plugins.graph import TORCH_DTYPES

__all__ = ["check_tensors", "read_document"]


def read_document(plain: object) -> Document:
    """Validate parsed JSON as a document, without the conversions that pydantic makes (`true` for 1, `"2"` for 2).

    Raises:
        DocumentError: it is not a document, of a version this reader does not know, or has a field of the wrong type.
    """
    document = Document.from_plain(plain)
    if document.version[0] != 1:
        raise DocumentError(
            f"graph document of version {'.'.join(map(str, document.version))}, expected 1.x", hint="upgrade amc-plugins"
        )
    given, taken = (json.dumps(one, sort_keys=True) for one in (plain, json.loads(document.to_json())))
    if given != taken:
        start = next((i for i, (a, b) in enumerate(zip(given, taken, strict=False)) if a != b), min(len(given), len(taken)))
        at = slice(max(start - 40, 0), start + 40)
        raise DocumentError(f"a field is missing or has another type than it should: `{given[at]}` was read as `{taken[at]}`")
    return document


def check_tensors(document: Document, tensors: Mapping[str, Tensor]) -> None:
    """Check that `tensors` are exactly the document's: names, dtypes, shapes.

    Raises:
        DocumentError: names the first tensor that is missing, unknown or different.
    """
    expected: dict[str, Any] = {spec.name: spec for spec in document.tensors}
    if len(expected) != len(document.tensors):
        raise DocumentError("two tensors of the table have one name")
    if missing := expected.keys() - tensors.keys():
        raise DocumentError(f"the tensor `{min(missing)}` is missing")
    if unknown := tensors.keys() - expected.keys():
        raise DocumentError(f"the tensor `{min(unknown)}` is not in the document's table")
    for name, spec in expected.items():
        tensor = tensors[name]
        if tensor.dtype != TORCH_DTYPES[spec.dtype] or list(tensor.shape) != spec.shape:
            raise DocumentError(
                f"the tensor `{name}` is {tensor.dtype} {list(tensor.shape)}, the document says {spec.dtype} {spec.shape}"
            )
        # Another byte in a bool tensor is undefined behaviour in whatever computes with it.
        if (
            tensor.dtype == torch.bool
            and tensor.device.type != "meta"
            and bool((tensor.reshape(-1).view(torch.uint8) > 1).any())
        ):
            raise DocumentError(f"the tensor `{name}` is bool and holds bytes other than 0 and 1")
