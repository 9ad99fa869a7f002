"""ONNX Runtime as an engine. Free of torch: it runs in a process whose memory is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amc_plugins.exporting import AmcError, Engine, MissingEngineError

__all__ = ["OnnxRuntime", "session"]


def session(path: Path, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Raises:
        MissingEngineError: ONNX Runtime is not installed.
        AmcError: it does not take the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingEngineError("ONNX Runtime is not installed", hint="pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base
        reason = str(error).strip().splitlines()[0][:300]
        raise AmcError(f"ONNX Runtime does not take {path}: {reason}") from error


class OnnxRuntime(Engine):
    """onnxruntime on the CPU, without spinning threads."""

    title = "ONNX Runtime"

    def __init__(self, path: Path, threads: int) -> None:
        self._session = session(path, threads)
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        outputs: list[Any] = self._session.run(None, dict(zip(self._names, inputs, strict=True)))
        return outputs
