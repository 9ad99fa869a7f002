"""Runs `.vnmodel` files without PyTorch: the C++ runtime of the AMC plug-ins project through its C interface.

    from amc_venus_runtime import Model
    model = Model("model.vnmodel")
    (scores,) = model.run([images])

`.vnmodel` here is that project's own open format; it is not, and cannot be verified to be, the format of Huya's Venus engine.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy

__all__ = ["Model", "VenusRuntimeError", "library", "main", "version"]
__version__ = "0.1.0"

_FOLDER = Path(__file__).parent
_NAMES = ("libvn.so", "libvn.dylib", "vn.dll")
_RANK = 8
_DTYPES = ("float32", "float16", "", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
"""NumPy's names in the order of `vn_dtype`; it has none for bfloat16."""


class VenusRuntimeError(ValueError):
    """A file is refused, or a run fails; `code` is one of the specification's or INPUT, MEMORY, ARGUMENT."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * _RANK),
        ("data", ctypes.c_void_p),
    ]


class Model:
    """An opened file. Several threads may run it at a time.

    Args:
        source: a path, which is mapped, or the file's bytes.
        threads: that share the work of a run.

    Raises:
        VenusRuntimeError: the file is refused.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, *, threads: int = 1) -> None:
        self._vn = _loaded()
        self._handle = ctypes.c_void_p()
        if isinstance(source, bytes):
            refused = self._vn.vn_open_mem(source, len(source), ctypes.byref(self._handle))
        else:
            refused = self._vn.vn_open(os.fsencode(source), ctypes.byref(self._handle))
        if refused or self._vn.vn_set_threads(self._handle, threads):
            raise self._error()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._vn.vn_close(self._handle)

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """By name: type and shape, None for a dimension that may change between runs."""
        found: dict[str, tuple[str, tuple[int | None, ...]]] = {}
        for place in range(self._vn.vn_input_count(self._handle)):
            one = _Tensor()
            self._vn.vn_input(self._handle, place, ctypes.byref(one))
            shape = tuple(None if size < 0 else int(size) for size in one.shape[: one.rank])
            found[self._vn.vn_input_name(self._handle, place).decode()] = (_DTYPES[one.dtype] or "bfloat16", shape)
        return found

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, in order."""
        count = self._vn.vn_output_count(self._handle)
        return [self._vn.vn_output_name(self._handle, place).decode() for place in range(count)]

    def run(self, inputs: Iterable[Any]) -> list[numpy.ndarray[Any, Any]]:
        """The outputs for arrays in the order of `inputs`.

        Raises:
            VenusRuntimeError: an input does not fit, or the network does not accept it.
        """
        kept = [numpy.ascontiguousarray(one).reshape(numpy.shape(one)) for one in inputs]
        given = (_Tensor * max(1, len(kept)))(*(self._tensor(one) for one in kept))
        result = ctypes.c_void_p()
        if self._vn.vn_run(self._handle, given, len(kept), ctypes.byref(result)):
            raise self._error()
        try:
            return [self._array(result, place) for place in range(self._vn.vn_result_count(result))]
        finally:
            self._vn.vn_result_free(result)

    def _error(self) -> VenusRuntimeError:
        code, text = self._vn.vn_last_error_code(self._handle), self._vn.vn_last_error(self._handle)
        return VenusRuntimeError(code.decode(), text.decode(errors="replace"))

    @staticmethod
    def _tensor(array: numpy.ndarray[Any, Any]) -> _Tensor:
        if array.dtype.name not in _DTYPES or array.ndim > _RANK:
            raise VenusRuntimeError("INPUT", f"an array of {array.dtype} with {array.ndim} axes")
        return _Tensor(_DTYPES.index(array.dtype.name), array.ndim, (ctypes.c_int64 * _RANK)(*array.shape), array.ctypes.data)

    def _array(self, result: ctypes.c_void_p, place: int) -> numpy.ndarray[Any, Any]:
        one = _Tensor()
        self._vn.vn_result_get(result, place, ctypes.byref(one))
        # bfloat16 comes as its bits.
        copied = numpy.empty(one.shape[: one.rank], _DTYPES[one.dtype] or "uint16")
        if copied.nbytes:
            ctypes.memmove(copied.ctypes.data, one.data, copied.nbytes)
        return copied


def version() -> str:
    """The version of the format, and the kernels: `1.0 reference`."""
    return str(_loaded().vn_version().decode())


def library() -> Path:
    """The shared library, with which other languages of the same process may work."""
    return next(path for name in _NAMES for path in sorted(_FOLDER.rglob(name)))


def main() -> int:
    """The command-line tool `vnrun`."""
    tool = next(path for name in ("vnrun", "vnrun.exe") for path in sorted(_FOLDER.rglob(name)))
    return subprocess.call([str(tool), *sys.argv[1:]])


@cache
def _loaded() -> ctypes.CDLL:
    vn = ctypes.CDLL(str(library()))
    handle, tensor, size = ctypes.c_void_p, ctypes.POINTER(_Tensor), ctypes.c_size_t
    declared: dict[str, tuple[Any, list[Any]]] = {
        "vn_open": (ctypes.c_int, [ctypes.c_char_p, ctypes.POINTER(handle)]),
        "vn_open_mem": (ctypes.c_int, [ctypes.c_char_p, size, ctypes.POINTER(handle)]),
        "vn_close": (None, [handle]),
        "vn_last_error": (ctypes.c_char_p, [handle]),
        "vn_last_error_code": (ctypes.c_char_p, [handle]),
        "vn_input_count": (size, [handle]),
        "vn_output_count": (size, [handle]),
        "vn_input_name": (ctypes.c_char_p, [handle, size]),
        "vn_output_name": (ctypes.c_char_p, [handle, size]),
        "vn_input": (ctypes.c_int, [handle, size, tensor]),
        "vn_set_threads": (ctypes.c_int, [handle, ctypes.c_int32]),
        "vn_run": (ctypes.c_int, [handle, tensor, size, ctypes.POINTER(handle)]),
        "vn_result_count": (size, [handle]),
        "vn_result_get": (ctypes.c_int, [handle, size, tensor]),
        "vn_result_free": (None, [handle]),
        "vn_version": (ctypes.c_char_p, []),
    }
    for name, (returned, arguments) in declared.items():
        function = getattr(vn, name)
        function.restype, function.argtypes = returned, arguments
    return vn
