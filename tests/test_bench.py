"""`amc.bench`: engines in turns, in processes of their own, compared with PyTorch; what cannot run says why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.cli.bench import _print_one as print_one
from amc_plugins.core import bench_child
from amc_plugins.core.bench import BenchRow, bench
from amc_plugins.core.registry import reset_registry
from amc_plugins.core.specs import ExporterSpec
from amc_plugins.plugin import SettingsError
from amc_plugins.testing.scenes import residual, two_inputs
from tests.work_files import Command

ENGINES = """
import numpy
from amc_plugins.exporting import Engine, MissingEngineError
from fixture_engines_exporter import Text

class _Stub(Engine):
    def __init__(self, path, threads):
        assert path.read_text() == "exported"
        self.threads = threads

class Sleeps(_Stub):
    title = "Sleeper"

    def __call__(self, inputs):
        import time
        time.sleep(0.004)
        return [numpy.full((len(inputs[0]), 10), self.threads, dtype=numpy.float32)]

class Absent(Sleeps):
    title = "Absent"

    def __init__(self, path, threads):
        raise MissingEngineError("it is not here", hint="pip install absent")

class Crashes(_Stub):
    title = "Crasher"

    def __call__(self, inputs):
        raise RuntimeError("out of order")

class Ends(_Stub):
    title = "Ender"

    def __call__(self, inputs):
        import os
        os._exit(7)
"""
EXPORTER = """
from amc_plugins.exporting import Exporter

class Text(Exporter):
    def export(self, network, path):
        path.write_text("exported")

    def verify(self, path, network, inputs):
        pass
"""


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An exporter of a script with four engines; forgotten afterwards, as are its modules."""
    (tmp_path / "fixture_engines.py").write_text(ENGINES)
    (tmp_path / "fixture_engines_exporter.py").write_text(EXPORTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = {"sleeper": "Sleeps", "absent": "Absent", "crasher": "Crashes", "ender": "Ends"}
    amc.register(
        ExporterSpec(
            name="engines-of-a-test",
            summary="engines of a test",
            api=(1, 1),
            target="fixture_engines_exporter:Text",
            suffixes=(".stub",),
            engines={name: f"fixture_engines:{target}" for name, target in names.items()},
        )
    )
    yield
    for name in ("fixture_engines", "fixture_engines_exporter"):
        sys.modules.pop(name, None)
    reset_registry()


def by_engine(rows: list[BenchRow]) -> dict[str, BenchRow]:
    return {row.engine: row for row in rows}


def test_engines_have_processes_of_their_own(stubs: None) -> None:
    rows = bench({"one": residual()}, names=["eager", "sleeper", "absent", "crasher", "ender"], seconds=0.05)
    found = by_engine(rows)
    assert list(found) == ["eager", "sleeper", "absent", "crasher", "ender"]
    eager, sleeper = found["eager"], found["sleeper"]
    assert eager.error == 0.0 and eager.calls >= 3 and eager.p95 is not None and eager.median is not None
    assert 0 < eager.median <= eager.p95
    # Sleeping takes time by the clock on the wall, and no CPU; the process without torch is the smaller one.
    assert sleeper.median is not None and sleeper.cpu is not None and sleeper.cpu < 0.004 <= sleeper.median
    assert sleeper.memory is not None and eager.memory is not None and 5e6 < sleeper.memory < eager.memory
    assert sleeper.file_bytes == len("exported") and sleeper.error is not None and sleeper.error > 0.01
    assert found["absent"].reason == "it is not here (pip install absent)"
    assert "RuntimeError: out of order" in found["crasher"].reason and "exit code 7" in found["ender"].reason
    assert all(found[name].median is None for name in ("absent", "crasher", "ender"))


def test_threads_and_the_process_itself(stubs: None) -> None:
    before = torch.get_num_threads()
    rows = bench({"a": residual(), "b": residual()}, names=["sleeper"], threads=(2, 3), seconds=0.01, isolated=False)
    assert [(row.threads, row.network) for row in rows] == [(2, "a"), (2, "b"), (3, "a"), (3, "b")]
    assert all(row.memory is None and row.error is not None for row in rows) and torch.get_num_threads() == before
    assert rows[0].error != rows[2].error, "the engine is told the number of threads: its outputs are this number"


def test_several_inputs_nested_outputs_and_a_larger_batch() -> None:
    pytest.importorskip("amc_onnx_export")
    rows = by_engine(bench({"n": two_inputs()}, names=["eager", "onnxruntime"], batch=3, seconds=0.01, isolated=False))
    assert rows["onnxruntime"].error is not None and rows["onnxruntime"].error < 1e-5, rows["onnxruntime"].reason


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(torch.special.bessel_j0(x))


def test_a_network_with_a_call_without_a_handler_runs_in_eager_alone() -> None:
    pytest.importorskip("amc_onnx_export")
    network = amc.capture(Odd(), torch.rand(2, 3))
    rows = by_engine(bench({"odd": network}, names=["eager", "onnxruntime"], seconds=0.01, isolated=False))
    assert rows["eager"].median is not None
    assert "no handler covers `torch.special.bessel_j0`" in rows["onnxruntime"].reason


def test_what_is_refused() -> None:
    with pytest.raises(SettingsError, match="no engine `onnxruntme`"):
        bench({"n": residual()}, names=["onnxruntme"])

    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(2, 12)

    with pytest.raises(SettingsError, match="captured for 2 samples"):
        bench({"n": amc.capture(Fixed(), torch.rand(2, 3, 4))}, batch=1)


def test_the_percentile_is_of_calls() -> None:
    class Slow:
        calls = 0

        def __call__(self, inputs: object) -> list[np.ndarray]:
            Slow.calls += 1
            return [np.zeros(1)]

    timed = bench_child.Timed(Slow(), [])
    times = timed.round(0.0)
    assert len(times) == 1 and Slow.calls == 4, "the outputs, two to warm up, and one that counts"


# --- the commands ---


def test_bench_prints_a_table_and_one_document(here: Path, amc_: Command) -> None:
    arguments = ("net.pkl", "--engine", "eager", "--threads", "1", "--seconds", "0.01")
    code, out, err = amc_("bench", *arguments, "--compare", "net.pkl")
    assert code == 0, err
    header, row = out.splitlines()
    assert header.split()[:4] == ["ENGINE", "THREADS", "MS", "BEFORE"] and row.split()[:3] == ["PyTorch", "eager", "1"]
    code, out, err = amc_("bench", *arguments, "--json")
    found = json.loads(out)
    assert code == 0 and [row["network"] for row in found["rows"]] == ["network"]
    assert all(row["median"] > 0 and row["memory"] > 1e7 and row["error"] == 0 for row in found["rows"])
    code, _, err = amc_("bench", "net.pkl", "-e", "egaer")
    assert code == 2 and "did you mean `eager`" in err


def test_the_table_of_one_network(capsys: pytest.CaptureFixture[str]) -> None:
    times = {"median": 0.004, "p95": 0.005, "cpu": 0.004, "load": 1.2, "memory": 250_000_000, "file_bytes": 1_500_000}
    rows = [
        BenchRow("network", "eager", "PyTorch eager", 1, 1, 9, **times, error=0.0),
        BenchRow("network", "x", "X", 1, 1, 9, **{**times, "median": 0.001}, error=2e-7),
        BenchRow("network", "y", "Y", 1, 1, reason="it is not here"),
    ]
    print_one(rows)
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[1] == ["PyTorch eager", "1", "4", "5", "4", "1.00x", "250.0", "1.50", "1200", "0e+00"]
    assert cells[2][2:6] == ["1", "5", "4", "4.00x"] and cells[3] == ["Y", "1", "it is not here"]


def test_convert_needs_no_code_of_the_network(here: Path, amc_: Command) -> None:
    (here / "model.py").unlink()
    code, out, err = amc_("convert", "net.pkl", "net.vnmodel", "--set", "model_id=7", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["exporter"] == "vnmodel" and found["bytes"] == (here / "net.vnmodel").stat().st_size and found["verified"]
    code, _, err = amc_("convert", "net.vnmodel", "net.json")
    assert code == 0 and err.startswith("wrote net.json (")
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(amc.load("net.json").eval()(x), amc.load("net.pkl").eval()(x))
    for arguments, words in (
        (("net.pkl", "net.xyz"), "no installed exporter writes `.xyz` files"),
        (("missing.pkl", "net.json"), "missing.pkl"),
        (("net.pkl", "net.json", "--set", "indnt=3"), "did you mean `indent`"),
    ):
        code, _, err = amc_("convert", *arguments)
        assert code == 2 and words in err, err


def test_convert_to_onnx(here: Path, amc_: Command) -> None:
    onnx = pytest.importorskip("onnx")
    code, _, err = amc_("convert", "net.pkl", "net.onnx", "--set", "batch=1")
    assert code == 0, err
    (given,) = onnx.load(str(here / "net.onnx")).graph.input
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim] == [1, 1, 8, 8]
