"""One engine with one file in a process of its own: started by `amc_plugins.core.bench`, spoken to in lines of JSON.

Free of torch unless the engine is torch: the memory of this process is what `amc bench` reports. After the first line, it is
asked one line for each round, a number of seconds, and answers with the times of its calls.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Timed", "peak_bytes", "timed_calls"]

_WARM = 2
"""Calls before the first that counts: they allocate and choose kernels."""


class Timed:
    """An engine that has its file and its inputs: outputs of the first call, then rounds of timed ones."""

    def __init__(self, engine: Any, inputs: Sequence[Any]) -> None:
        self.engine = engine
        self.inputs = list(inputs)
        self.outputs: list[Any] = engine(self.inputs)
        for _ in range(_WARM):
            engine(self.inputs)

    def round(self, seconds: float) -> list[tuple[float, float]]:
        """(wall, CPU) seconds of calls, for about so long; at least one."""
        return timed_calls(lambda: self.engine(self.inputs), seconds)


def timed_calls(call: Any, seconds: float) -> list[tuple[float, float]]:
    """(wall, CPU) seconds of each call, for about so long."""
    found = []
    end = time.perf_counter() + seconds
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
        if time.perf_counter() >= end:
            return found


def peak_bytes() -> int:
    """The most memory that this process had in use at one time."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts what the parent had before exec, too
        line = next((one for one in status.read_text().splitlines() if one.startswith("VmHWM:")), None)
        if line is not None:
            return 1024 * int(line.split()[1])
    import resource  # not on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def main() -> None:
    """Answer until the input ends."""
    from amc_plugins.core.errors import AmcError

    asked = json.loads(sys.stdin.readline())
    try:
        timed, loading = _opened(asked)
    except AmcError as error:
        _say({"refused": str(error), "hint": error.hint, "missing": type(error).__name__ == "MissingEngineError"})
        return
    size = timed.engine.file_bytes(Path(asked["path"]))
    _say({"load": loading, "file_bytes": size, "peak": peak_bytes()})
    for line in sys.stdin:
        times = timed.round(float(line))
        _say({"times": times, "peak": peak_bytes()})


def _opened(asked: dict[str, Any]) -> tuple[Timed, float]:
    import numpy

    module, _, name = asked["engine"].partition(":")
    kind = getattr(import_module(module), name)
    with numpy.load(asked["inputs"]) as held:
        inputs = [held[key] for key in held.files]
    start = time.perf_counter()
    engine = kind(Path(asked["path"]), asked["threads"])
    loading = time.perf_counter() - start
    timed = Timed(engine, inputs)
    numpy.savez(asked["outputs"], *timed.outputs)
    return timed, loading


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
