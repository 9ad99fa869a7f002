"""The emitters of the built-in ops, by op id."""

from __future__ import annotations

from amc_onnx_export import (
    _activation,
    _arithmetic,
    _attention,
    _conv,
    _creation,
    _indexing,
    _norm,
    _pooling,
    _recurrent,
    _reduction,
    _resize,
    _shape,
)
from amc_onnx_export._op import Emitter

__all__ = ["EMITTERS"]

EMITTERS: dict[str, Emitter] = {
    op: emitter
    for family in (
        _activation,
        _arithmetic,
        _attention,
        _conv,
        _creation,
        _indexing,
        _norm,
        _pooling,
        _recurrent,
        _reduction,
        _resize,
        _shape,
    )
    for op, emitter in family.EMITTERS.items()
}
