"""The library as Python sees it in the tests: built once by CMake, called through its C interface."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

RUNTIME = Path(__file__).parents[1]
BUILD = RUNTIME / "build"
"""Ignored by git and kept between runs: CMake builds what changed."""

DTYPES = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
    torch.bool,
]  # fmt: skip
"""In the order of `vn_dtype`."""


class RefusedError(Exception):
    """What the runtime says no to; `code` is the specification's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Struct(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * 8),
        ("data", ctypes.c_void_p),
    ]


def missing_tools() -> str | None:
    """Why nothing can be built here, or None."""
    if shutil.which("cmake") is None:
        return "cmake is not installed"
    compilers = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    return None if any(one and shutil.which(one) for one in compilers) else "there is no C++ compiler"


def built(folder: str = "tests", targets: Sequence[str] = ("vn", "vnrun"), **options: str) -> Path:
    """The folder of a build with CMake's `options`; processes that want it at a time wait for each other."""
    where = BUILD / folder
    where.mkdir(parents=True, exist_ok=True)
    with (where / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        given = [f"-D{name}={value}" for name, value in options.items()]
        _run(["cmake", "-S", str(RUNTIME), "-B", str(where), *given])
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        _run(["cmake", "--build", str(where), "--parallel", jobs, "--target", *targets])
    return where


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


class Library:
    """`libvn`, loaded from a build."""

    def __init__(self, build: Path) -> None:
        self.tool = build / "vnrun"
        lib = ctypes.CDLL(str(next(build.glob("libvn.*"))))
        for name in ("vn_last_error", "vn_last_error_code", "vn_input_name", "vn_output_name", "vn_op_id", "vn_version"):
            getattr(lib, name).restype = ctypes.c_char_p
        for name in ("vn_input_count", "vn_output_count", "vn_result_count"):
            getattr(lib, name).restype = ctypes.c_size_t
        self.lib: Any = lib

    def open(self, source: Path | bytes) -> Model:
        """Raises `RefusedError`."""
        handle = ctypes.c_void_p()
        if isinstance(source, bytes):
            failed = self.lib.vn_open_mem(source, ctypes.c_size_t(len(source)), ctypes.byref(handle))
        else:
            failed = self.lib.vn_open(os.fsencode(source), ctypes.byref(handle))
        model = Model(self.lib, handle)
        if failed:
            raise model.error()
        return model

    def code(self, source: Path | bytes) -> str:
        """ "OK", or the code with which a file is refused."""
        try:
            self.open(source)
        except RefusedError as error:
            return error.code
        return "OK"

    def ops(self) -> list[str]:
        found: list[str] = []
        while (one := self.lib.vn_op_id(ctypes.c_size_t(len(found)))) is not None:
            found.append(one.decode())
        return found


class Model:
    """An open handle."""

    def __init__(self, lib: Any, handle: ctypes.c_void_p) -> None:
        self.lib, self.handle = lib, handle

    def __del__(self) -> None:
        self.lib.vn_close(self.handle)

    def error(self) -> RefusedError:
        return RefusedError(self.lib.vn_last_error_code(self.handle).decode(), self.lib.vn_last_error(self.handle).decode())

    @property
    def outputs(self) -> list[str]:
        count = self.lib.vn_output_count(self.handle)
        return [self.lib.vn_output_name(self.handle, ctypes.c_size_t(index)).decode() for index in range(count)]

    def set_threads(self, count: int) -> None:
        """Raises `RefusedError`."""
        if self.lib.vn_set_threads(self.handle, ctypes.c_int32(count)):
            raise self.error()

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Raises `RefusedError`."""
        held = [one.detach().contiguous() for one in inputs]
        given = (_Struct * max(1, len(held)))()
        for place, one in zip(given, held, strict=False):
            place.dtype, place.rank, place.data = DTYPES.index(one.dtype), one.dim(), one.data_ptr()
            for axis, size in enumerate(one.shape):
                place.shape[axis] = size
        result = ctypes.c_void_p()
        if self.lib.vn_run(self.handle, given, ctypes.c_size_t(len(held)), ctypes.byref(result)):
            raise self.error()
        try:
            return [self._output(result, index) for index in range(self.lib.vn_result_count(result))]
        finally:
            self.lib.vn_result_free(result)

    def _output(self, result: ctypes.c_void_p, index: int) -> Tensor:
        found = _Struct()
        assert self.lib.vn_result_get(result, ctypes.c_size_t(index), ctypes.byref(found)) == 0
        shape, dtype = list(found.shape[: found.rank]), DTYPES[found.dtype]
        made = torch.empty(shape, dtype=dtype)
        ctypes.memmove(made.data_ptr(), found.data, made.numel() * made.element_size())
        return made
