"""The C++ runtime of `.vnmodel` as an engine, through its C interface (`runtime/include/vn.h`). Free of torch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from amc_plugins.exporting import AmcError, Engine, MissingEngineError

__all__ = ["LIBRARY", "VenusRuntime"]

LIBRARY = "AMC_VN_LIBRARY"
"""The environment variable that names the shared library."""
_NAMES = ("libvn.so", "libvn.dylib", "vn.dll")
_RANK = 8
_DTYPES = ("float32", "float16", "", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
"""NumPy's names in the order of `vn_dtype`; it has none for bfloat16."""


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * _RANK),
        ("data", ctypes.c_void_p),
    ]


class VenusRuntime(Engine):
    """The library of this repository's `runtime/`."""

    title = "Venus runtime (C++)"

    def __init__(self, path: Path, threads: int) -> None:
        self._vn = _library()
        self._model = ctypes.c_void_p()
        if self._vn.vn_open(os.fsencode(path), ctypes.byref(self._model)):
            raise AmcError(f"the C++ runtime refuses {path}: {self._said()}")
        if self._vn.vn_set_threads(self._model, threads):
            raise AmcError(f"the C++ runtime does not run on {threads} threads: {self._said()}")

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._vn.vn_close(self._model)

    @classmethod
    def settings(cls, batch: int) -> dict[str, Any]:
        return {"fold_norms": True}

    @property
    def version(self) -> str:
        """The version of the format, and the kernels: `1.0 reference`."""
        return str(self._vn.vn_version().decode())

    def _said(self) -> str:
        return str(self._vn.vn_last_error(self._model).decode(errors="replace"))

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        import numpy

        kept = [numpy.ascontiguousarray(one) for one in inputs]
        given = (_Tensor * len(kept))(*map(_tensor, kept))
        result = ctypes.c_void_p()
        if self._vn.vn_run(self._model, given, len(kept), ctypes.byref(result)):
            raise AmcError(f"the C++ runtime fails: {self._said()}")
        try:
            return [_array(self._vn, result, place) for place in range(self._vn.vn_result_count(result))]
        finally:
            self._vn.vn_result_free(result)


def _tensor(array: Any) -> _Tensor:
    shape = (ctypes.c_int64 * _RANK)(*array.shape)
    return _Tensor(_DTYPES.index(array.dtype.name), array.ndim, shape, array.ctypes.data)


def _array(vn: ctypes.CDLL, result: ctypes.c_void_p, place: int) -> Any:
    """A copy of an output."""
    import numpy

    one = _Tensor()
    if vn.vn_result_get(result, place, ctypes.byref(one)):
        raise AmcError(f"the C++ runtime has no output {place}")
    name = _DTYPES[one.dtype]
    if not name:
        raise AmcError("the C++ runtime gives bfloat16, which NumPy has not")
    copied = numpy.empty(list(one.shape)[: one.rank], name)
    if copied.nbytes:
        ctypes.memmove(copied.ctypes.data, one.data, copied.nbytes)
    return copied


def _library() -> ctypes.CDLL:
    """The shared library that `AMC_VN_LIBRARY` names, or that of the wheel `amc-venus-runtime`."""
    found = next(_places(), None)
    if found is None:
        raise MissingEngineError(
            "there is no C++ runtime here",
            hint=f"pip install amc-venus-runtime, or build runtime/ and name its library: {LIBRARY}=/path/to/libvn.so",
        )
    try:
        vn = ctypes.CDLL(str(found))
        for name in ("vn_last_error", "vn_version"):
            getattr(vn, name).restype = ctypes.c_char_p
        vn.vn_result_count.restype = ctypes.c_size_t
        vn.vn_open.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
        vn.vn_set_threads.argtypes = [ctypes.c_void_p, ctypes.c_int32]
        vn.vn_run.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Tensor), ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)]
        vn.vn_result_get.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(_Tensor)]
        for name in ("vn_last_error", "vn_close", "vn_result_count", "vn_result_free"):
            getattr(vn, name).argtypes = [ctypes.c_void_p]
    except (OSError, AttributeError) as error:
        raise AmcError(f"`{found}` is not the runtime's library: {error}", hint="see runtime/include/vn.h") from error
    return vn


def _places() -> Iterator[Path]:
    if named := os.environ.get(LIBRARY):
        yield Path(named)
        return
    wheel = util.find_spec("amc_venus_runtime")
    for folder in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        yield from (path for name in _NAMES for path in sorted(Path(folder).rglob(name)))
