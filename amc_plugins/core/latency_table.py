"""Measured seconds of single layers by op, sizes, threads and machine; kept on disk, so that none is measured twice."""

from __future__ import annotations

import json
import logging
import os
import platform
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_plugins.core.describe import make_layer
from amc_plugins.core.network import TORCH_DTYPES
from amc_plugins.core.outlines import NodeOutline, masked, unmasked
from amc_plugins.core.stopwatch import Timer, Work

if TYPE_CHECKING:
    from amc_plugins.core.outlines import Piece

__all__ = ["LatencyTable", "cache_path", "kernel_of"]

_log = logging.getLogger(__name__)

_TOGETHER = 16
"""Layers that are alive and timed at once."""


def kernel_of(node: NodeOutline) -> Piece:
    """What of a node its time depends on: op, parameters, sizes and dtypes."""
    ints: list[int] = []
    plain = {
        "op": node.op,
        "params": node.params,
        "call": node.call,
        "inputs": tuple((shape, dtype) for _, shape, dtype in node.inputs),
        "slots": node.slots,
    }
    return masked(plain, ints), tuple(ints)


def cache_path() -> Path:
    """`latency.sqlite` in `AMC_CACHE`, else in the user's cache folder."""
    given = os.environ.get("AMC_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "amc-plugins"
    return base / "latency.sqlite"


class LatencyTable:
    """Seconds of kernels, each measured once.

    Args:
        timer: what measures.
        threads: that it measures with.
        device: where.
        path: the file; None keeps the times in memory only.
    """

    def __init__(self, timer: Timer, threads: int, device: torch.device, path: Path | None) -> None:
        self.timer = timer
        self.device = device
        self.measured = 0
        self._path = path
        self._where = json.dumps([threads, _machine(device), torch.__version__])
        self._known: dict[Piece, float] = {}

    def times(self, kernels: Iterable[Piece]) -> dict[Piece, float]:
        """Seconds of every kernel; those that are not known yet are measured, interleaved."""
        wanted = list(dict.fromkeys(kernels))
        missing = [one for one in wanted if one not in self._known]
        if missing:
            self._known.update(self._stored(missing))
        missing = [one for one in missing if one not in self._known]
        if missing:
            _log.info("measuring %d layers", len(missing))
        for start in range(0, len(missing), _TOGETHER):
            chunk = missing[start : start + _TOGETHER]
            found = dict(zip(chunk, self.timer([self._work(one) for one in chunk]), strict=True))
            self.measured += len(chunk)
            self._known.update(found)
            self._store(found)
        return {one: self._known[one] for one in wanted}

    def _work(self, kernel: Piece) -> Work:
        """A layer of these sizes with random weights, and random inputs."""
        structure, ints = kernel
        plain = unmasked(structure, iter(ints))
        generator = torch.Generator().manual_seed(0)
        slots = {name: self._random(shape, dtype, generator) for name, (shape, dtype) in plain["slots"].items()}
        module = make_layer(plain["op"], plain["params"], slots).eval()
        module.to(self.device)
        return Work(module, tuple(self._random(shape, dtype, generator) for shape, dtype in plain["inputs"]), plain["call"])

    def _random(self, shape: tuple[int, ...], dtype: str, generator: torch.Generator) -> Tensor:
        kind = TORCH_DTYPES[dtype]
        if not kind.is_floating_point:
            return torch.zeros(shape, dtype=kind, device=self.device)  # a valid index, whatever it is one of
        return (torch.rand(shape, generator=generator) + 0.5).to(self.device, kind)  # positive, as variances are

    # --- on disk ---

    def _stored(self, kernels: Iterable[Piece]) -> dict[Piece, float]:
        if self._path is None or not self._path.is_file():
            return {}
        with closing(sqlite3.connect(self._path, timeout=30)) as database:
            _prepare(database)
            found = {}
            for one in kernels:
                row = database.execute("SELECT seconds FROM latency WHERE key = ?", (self._key(one),)).fetchone()
                if row is not None:
                    found[one] = float(row[0])
        return found

    def _store(self, found: Mapping[Piece, float]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(self._key(one), seconds, self._where, repr(one)) for one, seconds in found.items()]
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            _prepare(database)
            database.executemany("INSERT OR REPLACE INTO latency VALUES (?, ?, ?, ?)", rows)

    def _key(self, kernel: Piece) -> str:
        return sha256(f"{self._where}\n{kernel!r}".encode()).hexdigest()


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE IF NOT EXISTS latency (key TEXT PRIMARY KEY, seconds REAL, machine TEXT, kernel TEXT)")


def _machine(device: torch.device) -> list[Any]:
    if device.type == "cuda":
        return ["cuda", torch.cuda.get_device_name(device)]
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:  # no Linux
        pass
    return [device.type, platform.node(), model, torch.backends.cpu.get_cpu_capability()]
