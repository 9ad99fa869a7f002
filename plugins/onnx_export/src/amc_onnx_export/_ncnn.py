"""ncnn as an engine, by way of `pnnx`, which converts the .onnx file. Free of torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

from amc_plugins.exporting import AmcError, Engine, MissingEngineError

__all__ = ["Ncnn"]


class Ncnn(Engine):
    """ncnn in float32, the options off that store or compute in less."""

    title = "ncnn"
    quick = False

    def __init__(self, path: Path, threads: int) -> None:
        missing = [name for name in ("ncnn", "pnnx") if util.find_spec(name) is None]
        if missing:
            raise MissingEngineError(f"{' and '.join(missing)} not installed", hint="pip install ncnn pnnx")
        import ncnn

        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "int8_inference"):
            setattr(options, f"use_{name}", False)
        with tempfile.TemporaryDirectory() as folder:
            param, weights = _converted(path, Path(folder))
            self._bytes = param.stat().st_size + weights.stat().st_size
            if self._net.load_param(str(param)) or self._net.load_model(str(weights)):
                raise AmcError(f"ncnn does not take what pnnx made of {path}")
        self._mat = ncnn.Mat
        self._inputs, self._outputs = list(self._net.input_names()), list(self._net.output_names())

    @classmethod
    def settings(cls, batch: int) -> dict[str, Any]:
        return {"batch": batch}

    def file_bytes(self, path: Path) -> int:
        return self._bytes

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """One sample: ncnn's tensors have no batch axis."""
        import numpy

        if any(len(one) != 1 for one in inputs):
            raise AmcError("ncnn runs one sample at a time", hint="--batch 1")
        extractor = self._net.create_extractor()
        for name, one in zip(self._inputs, inputs, strict=True):
            extractor.input(name, self._mat(one[0]))
        found = []
        for name in self._outputs:
            failed, made = extractor.extract(name)
            if failed:
                raise AmcError(f"ncnn gives no output `{name}`")
            found.append(numpy.array(made)[None])
        return found


def _converted(path: Path, folder: Path) -> tuple[Path, Path]:
    """The .param and .bin that pnnx makes of an .onnx file."""
    source = folder / "network.onnx"
    shutil.copyfile(path, source)
    spec = util.find_spec("pnnx")
    assert spec is not None and spec.origin is not None
    program = Path(spec.origin).parent / ("pnnx.exe" if sys.platform == "win32" else "pnnx")
    done = subprocess.run([str(program), source.name, "fp16=0"], cwd=folder, capture_output=True, text=True, check=False)
    files = folder / "network.ncnn.param", folder / "network.ncnn.bin"
    if not all(one.is_file() for one in files):
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise AmcError(f"pnnx does not convert {path}: {tail[0][:300]}")
    return files
