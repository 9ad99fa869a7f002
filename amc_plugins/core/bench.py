"""`amc.bench`: what networks take in PyTorch and in the engines that they are deployed on, side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from typing import IO, Any, Protocol

import numpy
import torch

from amc_plugins.core import bench_child, engine
from amc_plugins.core.bench_eager import arrays_of, write_eager
from amc_plugins.core.errors import AmcError, SettingsError, nearest
from amc_plugins.core.latency import check_batch
from amc_plugins.core.loading import import_target
from amc_plugins.core.network import ReconstructedNetwork
from amc_plugins.core.registry import registry
from amc_plugins.core.specs import ExporterSpec
from amc_plugins.exporting import Engine, MissingEngineError

__all__ = ["EAGER", "BenchRow", "bench", "engines"]

EAGER = "eager"
_EAGER_TARGET = "amc_plugins.core.bench_eager:Eager"


@dataclass
class BenchRow:
    """One network in one engine, with so many threads. A row without times says why in `reason`."""

    network: str
    engine: str
    title: str
    threads: int
    batch: int
    calls: int = 0
    median: float | None = None
    """Seconds of a call, by the clock on the wall, as `p95`."""
    p95: float | None = None
    cpu: float | None = None
    """Seconds of CPU of a call: what other processes do not add to. Median."""
    load: float | None = None
    """Seconds until the file is ready to run."""
    memory: int | None = None
    """The most bytes that a process had in use which loaded and ran the file; None where it had no process of its own."""
    file_bytes: int | None = None
    error: float | None = None
    """The largest difference from PyTorch's outputs, as a share of the largest of them."""
    reason: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def engines() -> dict[str, tuple[str, str]]:
    """Every engine by name: (exporter of its files, target of its class); `eager` first."""
    found = {EAGER: ("", _EAGER_TARGET)}
    for spec in registry().specs("exporters"):
        if isinstance(spec, ExporterSpec):
            found.update({name: (spec.name, target) for name, target in spec.engines.items()})
    return found


def bench(
    networks: Mapping[str, ReconstructedNetwork],
    *,
    names: Sequence[str] | None = None,
    threads: Sequence[int] = (1,),
    batch: int = 1,
    seconds: float = 1.0,
    isolated: bool = True,
) -> list[BenchRow]:
    """Time networks in engines: median and 95th percentile of calls, CPU time, memory and size.

    Every engine has a process of its own, and they take turns: in every round each of them runs for a moment while the others
    wait, so what disturbs the machine disturbs all of them. All run on the same random inputs; their outputs are compared.

    Args:
        networks: by the name that their rows get, for example `before` and `after`.
        names: of engines; default: all that installed exporters declare, and `eager`.
        threads: numbers of threads to measure with, one after the other.
        batch: samples in a call.
        seconds: of measuring, for each row.
        isolated: in processes of their own; without, memory is not known, and nothing but quick engines is measured.

    Raises:
        SettingsError: an engine that there is not, or a batch that a network does not take.
    """
    known = engines()
    for name in names or ():
        if name not in known:
            raise SettingsError(f"there is no engine `{name}`{nearest(name, known)}", hint=f"engines are {', '.join(known)}")
    for network in networks.values():
        check_batch(network, batch)
    chosen = [name for name in known if names is None or name in names]
    if EAGER not in chosen:
        chosen.insert(0, EAGER)  # the outputs that others are compared with
    with tempfile.TemporaryDirectory(prefix="amc-bench-") as folder:
        cases = [case for label, one in networks.items() for case in _cases(Path(folder), label, one, chosen, known, batch)]
        if not isolated:
            cases = [case for case in cases if case.quick]
        rows = [row for count in threads for row in _measured(cases, count, batch, seconds, isolated)]
    order = {label: place for place, label in enumerate(networks)}
    rows.sort(key=lambda row: (row.threads, chosen.index(row.engine), order[row.network]))
    return [row for row in rows if names is None or row.engine in names]


# --- cases ---


@dataclass
class _Case:
    """One network's file for one engine."""

    label: str
    engine: str
    target: str
    title: str
    folder: Path
    path: Path
    quick: bool = True
    reason: str = ""
    inputs: list[Any] = field(default_factory=list)

    @property
    def outputs(self) -> Path:
        return self.folder / f"{self.engine}.npz"


def _cases(
    folder: Path,
    label: str,
    network: ReconstructedNetwork,
    names: Sequence[str],
    known: Mapping[str, tuple[str, str]],
    batch: int,
) -> Iterator[_Case]:
    """Files and inputs, written; what cannot be exported has its reason."""
    place = folder / f"{len(list(folder.iterdir()))}"
    place.mkdir()
    there = network.clone().to("cpu").eval()
    inputs = arrays_of(there, engine.random_inputs(there, batch=batch))
    numpy.savez(place / "inputs.npz", *inputs)
    written: dict[tuple[str, str], Path] = {}
    for name in names:
        exporter, target = known[name]
        case = _Case(label, name, target, name, place, place / f"{name}.pt", inputs=inputs)
        try:
            kind: type[Engine] = import_target(target)
            case.title, case.quick = kind.title, kind.quick
            if name == EAGER:
                write_eager(there, case.path)
            else:
                case.path = _exported(there, exporter, kind.settings(batch), place, written)
        except AmcError as error:
            case.reason = str(error)
        yield case


def _exported(
    network: ReconstructedNetwork,
    exporter: str,
    settings: dict[str, Any],
    place: Path,
    written: dict[tuple[str, str], Path],
) -> Path:
    key = exporter, repr(sorted(settings.items()))
    if key not in written:
        written[key] = engine.export(network, exporter, place / f"network{len(written)}", verify=False, **settings)
    return written[key]


# --- measuring ---


class _Session(Protocol):
    load: float
    file_bytes: int

    @property
    def memory(self) -> int | None: ...

    def round(self, seconds: float) -> list[tuple[float, float]]: ...


def _measured(cases: Sequence[_Case], threads: int, batch: int, seconds: float, isolated: bool) -> list[BenchRow]:
    rows = [BenchRow(case.label, case.engine, case.title, threads, batch, reason=case.reason) for case in cases]
    rounds = max(3, min(10, round(seconds / 0.1)))
    with ExitStack() as stack:
        running: list[tuple[BenchRow, _Session, list[tuple[float, float]]]] = []
        for case, row in zip(cases, rows, strict=True):
            if row.reason:
                continue
            try:
                opened = _process(case, threads) if isolated else _in_process(case, threads)
                running.append((row, stack.enter_context(opened), []))
            except AmcError as error:
                row.reason = f"{error} ({error.hint})" if isinstance(error, MissingEngineError) and error.hint else str(error)
        for _ in range(rounds):
            for row, session, times in list(running):
                try:
                    times.extend(session.round(seconds / rounds))
                except AmcError as error:
                    row.reason = str(error)
                    running = [one for one in running if one[0] is not row]
        for row, session, times in running:
            _fill(row, session, times)
    for case, row in zip(cases, rows, strict=True):
        if not row.reason:
            row.error = _difference(case)
    return rows


def _fill(row: BenchRow, session: _Session, times: Sequence[tuple[float, float]]) -> None:
    walls = sorted(wall for wall, _ in times)
    row.calls, row.median = len(walls), median(walls)
    row.p95 = walls[ceil(0.95 * len(walls)) - 1]
    row.cpu = median(cpu for _, cpu in times)
    row.load, row.file_bytes, row.memory = session.load, session.file_bytes, session.memory


def _difference(case: _Case) -> float | None:
    """The largest difference from the eager outputs, as a share of the largest of these."""
    reference = case.folder / f"{EAGER}.npz"
    if not reference.is_file():
        return None
    with numpy.load(case.outputs) as mine, numpy.load(reference) as theirs:
        pairs = [(theirs[key], mine[key]) for key in theirs.files if key in mine.files]
        if len(pairs) < len(theirs.files) or any(a.shape != b.shape for a, b in pairs):
            return None
    worst = 0.0
    for a, b in pairs:
        if a.size:
            difference = numpy.abs(a.astype(numpy.float64) - b.astype(numpy.float64))
            worst = max(worst, float(numpy.nanmax(difference)) / max(float(numpy.nanmax(numpy.abs(a))), 1e-30))
    return worst


class _Local:
    """An engine in this process."""

    memory = None

    def __init__(self, case: _Case, threads: int) -> None:
        kind: Callable[..., Engine] = import_target(case.target)
        start = time.perf_counter()
        held = kind(case.path, threads)
        self.load = time.perf_counter() - start
        try:
            self._timed = bench_child.Timed(held, case.inputs)
        except Exception as error:  # an engine's library may raise anything; the row says it
            raise AmcError(f"{type(error).__name__}: {str(error).splitlines()[0][:300]}") from error
        self.file_bytes = held.file_bytes(case.path)
        numpy.savez(case.outputs, *self._timed.outputs)

    def round(self, seconds: float) -> list[tuple[float, float]]:
        return self._timed.round(seconds)


@contextmanager
def _in_process(case: _Case, threads: int) -> Iterator[_Session]:
    before = torch.get_num_threads()
    try:
        yield _Local(case, threads)
    finally:
        torch.set_num_threads(before)


class _Child:
    """An engine in a process of its own."""

    def __init__(self, case: _Case, threads: int, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors
        asked = {
            "engine": case.target,
            "path": str(case.path),
            "threads": threads,
            "inputs": str(case.folder / "inputs.npz"),
            "outputs": str(case.outputs),
        }
        answer = self._ask(json.dumps(asked))
        if "refused" in answer:
            raise (MissingEngineError if answer["missing"] else AmcError)(answer["refused"], hint=answer["hint"])
        self.load: float = answer["load"]
        self.file_bytes: int = answer["file_bytes"]
        self.memory: int = answer["peak"]

    def round(self, seconds: float) -> list[tuple[float, float]]:
        answer = self._ask(repr(seconds))
        self.memory = answer["peak"]
        return [(wall, cpu) for wall, cpu in answer["times"]]

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        while said := self._process.stdout.readline():
            if said.startswith("{"):  # an engine's library may print
                answer: dict[str, Any] = json.loads(said)
                return answer
        raise self._ended()

    def _ended(self) -> AmcError:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()[-1:] or [f"exit code {code}"]
        return AmcError(f"its process ended: {said[0][:300]}")


@contextmanager
def _process(case: _Case, threads: int) -> Iterator[_Session]:
    """Libraries that make threads of their own when they are loaded are told how many, and not to spin."""
    told = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "amc_plugins.core.bench_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **told, "OMP_WAIT_POLICY": "PASSIVE"},
        )
        try:
            yield _Child(case, threads, process, errors)
        finally:
            process.kill()
            process.communicate()
