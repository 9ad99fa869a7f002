"""The C interface and the command-line tool."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from amc_venus_export.drafts import sample, stored_sample
from torch import Tensor, nn

import amc_plugins as amc


class Net(nn.Module):
    """Two inputs by name, three outputs of two types."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.head = nn.Linear(6, 4)
        for parameter in self.head.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Any]:
        scores = self.head(left + right)
        return {"scores": scores, "best": (scores.argmax(1), scores > 0)}


def inputs(batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 6, generator=generator), torch.randn(batch, 6, generator=generator)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    network = amc.capture(Net().eval(), *inputs())
    path = tmp_path_factory.mktemp("model") / "net.vnmodel"
    amc.export(network, "vnmodel", path, model_id=11, model_base_size_hw=(32, 48))
    return network, path


def run(
    tool: Path, *arguments: str | Path, cwd: Path | None = None, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """With nothing in the environment: no Python, no libraries but those that the tool names itself."""
    command = ["/usr/bin/env", "-i", "PATH=", str(tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, input=text)


# --- the tool ---


def test_the_tool_writes_the_stored_outputs_in_an_empty_environment(library: Any, exported: Any, tmp_path: Path) -> None:
    network, path = exported
    left, right = inputs()
    numpy.save(tmp_path / "left.npy", left.numpy())
    numpy.save(tmp_path / "right.npy", right.numpy())
    names = ("scores", "best", "positive")
    outputs = [part for name in names for part in ("--output", tmp_path / f"{name}.npy")]
    done = run(library.tool, path, "--input", "left.npy", "--input", "right.npy", *outputs, "--threads", "2", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with torch.no_grad():
        expected = network(left, right)
    scores, best, positive = (numpy.load(tmp_path / f"{name}.npy") for name in names)
    assert scores.dtype == numpy.float32 and best.dtype == numpy.int64 and positive.dtype == numpy.bool_
    assert numpy.abs(scores - expected["scores"].numpy()).max() <= 1e-6 * expected["scores"].abs().max()
    assert (best == expected["best"][0].numpy()).all() and (positive == expected["best"][1].numpy()).all()


def test_inputs_and_outputs_by_name_and_printed(library: Any, exported: Any, tmp_path: Path) -> None:
    network, path = exported
    left, right = inputs(1)
    numpy.save(tmp_path / "l.npy", left.numpy())
    numpy.save(tmp_path / "r.npy", right.numpy())
    given = ("--input", f"right={tmp_path / 'r.npy'}", "--input", f"left={tmp_path / 'l.npy'}")
    done = run(library.tool, path, *given, "--print")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(" f32 (1, 4)")
    with torch.no_grad():
        expected = network(left, right)["scores"][0]
    assert (torch.tensor([float(one) for one in lines[1:5]]) - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert lines[5].endswith(" i64 (1)") and int(lines[6]) == int(expected.argmax())
    assert [bool(int(one)) for one in lines[8:]] == (expected > 0).tolist()


def test_the_tool_describes_and_checks(library: Any, exported: Any, tmp_path: Path) -> None:
    _, path = exported
    done = run(library.tool, path)
    assert done.stdout.splitlines()[:4] == [
        "model_id 11",
        "base size 32 x 48",
        "input left f32 (any, 6)",
        "input right f32 (any, 6)",
    ]
    assert len([line for line in done.stdout.splitlines() if line.startswith("output ")]) == 3
    (tmp_path / "bad").write_bytes(path.read_bytes()[:-1])
    done = run(library.tool, "--check", path, tmp_path / "bad", "-", text=f"{path}\n{tmp_path / 'bad'}\n")
    assert (done.returncode, done.stdout) == (1, "OK\nTRUNCATED\nOK\nTRUNCATED\n")
    assert run(library.tool, "--check", path).returncode == 0
    assert run(library.tool, "--ops").stdout.split() == library.ops()
    assert "not that of Huya's Venus engine" in run(library.tool, "--help").stdout


def test_the_tool_says_what_is_wrong(library: Any, exported: Any, tmp_path: Path) -> None:
    _, path = exported
    numpy.save(tmp_path / "f.npy", numpy.zeros((1, 6), numpy.float32))
    numpy.save(tmp_path / "wide.npy", numpy.zeros((1, 7), numpy.float32))
    numpy.save(tmp_path / "order.npy", numpy.asfortranarray(numpy.zeros((2, 6), numpy.float32)))
    numpy.save(tmp_path / "complex.npy", numpy.zeros(6, numpy.complex64))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "f.npy").read_bytes()[:-1])
    (tmp_path / "text.npy").write_bytes(b"hello")
    cases: list[tuple[list[str], str]] = [
        (["--input", "f.npy"], "input `right` is missing"),
        (["--input", "f.npy", "--input", "wide.npy"], "[INPUT]"),
        (["--input", "f.npy", "--input", "order.npy"], "Fortran order"),
        (["--input", "f.npy", "--input", "complex.npy"], "its type is none that a model can take"),
        (["--input", "f.npy", "--input", "cut.npy"], "its data is cut off"),
        (["--input", "f.npy", "--input", "text.npy"], "is no .npy file"),
        (["--input", "f.npy", "--input", "none.npy"], "cannot be opened"),
        (["--input", "f.npy", "--input", "f.npy", "--input", "f.npy"], "one more than the model has"),
        (["--input", "f.npy", "--input", "f.npy", "--output", "no/folder.npy"], "cannot be written"),
        (["--input"], "needs a file"),
        (["--threads", "two"], "needs a number"),
        (["--input", "f.npy", "--input", "f.npy", "--threads", "0"], "0 threads, expected 1 to 256"),
        (["--colour"], "is not understood"),
    ]
    for arguments, message in cases:
        done = run(library.tool, path, *arguments, cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr, (arguments, done.stderr)
    assert "BAD_MAGIC" in run(library.tool, tmp_path / "f.npy").stderr


# --- the C interface ---


def test_inputs_that_do_not_fit_are_refused(native: Any, library: Any, exported: Any) -> None:
    model = library.open(exported[1])
    left, right = inputs()
    for given, message in (
        ((left,), "1 inputs, the network takes 2"),
        ((left, right[:, :5]), "expected was f32 (any, 6)"),
        ((left, right.double()), "is f64"),
        ((left, right[:2]), "do not broadcast"),
        ((left[0], right), "is f32 (6)"),
    ):
        with pytest.raises(native.RefusedError, match=r"\[(INPUT|SHAPE_RULE)") as caught:
            model.run(*given)
        assert message in str(caught.value)
    assert len(model.run(left, right)) == 3  # and the handle works on


def test_what_a_run_needs_is_checked_before_anything_is_computed(native: Any, library: Any) -> None:
    draft = sample()
    draft.root["model_base_size_hw"] = None
    draft.document["inputs"][0]["shape"] = [None, 3, None, 8]
    draft.document["nodes"][6]["params"]["operands"][1] = 2**18
    model = library.open(draft.pack())  # the height is open, so nothing is known of the memory
    with pytest.raises(native.RefusedError) as caught:
        model.run(torch.zeros(1, 3, 8, 8))
    assert caught.value.code == "ACTIVATIONS_TOO_BIG"


def test_several_threads_have_each_their_error(native: Any, library: Any, exported: Any) -> None:
    network, path = exported
    model = library.open(path)
    problems: list[object] = []

    def work(batch: int) -> None:
        try:
            with torch.no_grad():
                expected = network(*inputs(batch))["scores"]
            for _ in range(30):
                scores = model.run(*inputs(batch))[0]
                assert (scores - expected).abs().max() <= 1e-6 * expected.abs().max()
                with pytest.raises(native.RefusedError, match=f"is f32 \\({batch}, {batch}\\)"):
                    model.run(torch.zeros(batch, batch), inputs(batch)[1])
        except BaseException as error:
            problems.append(error)
            raise

    threads = [threading.Thread(target=work, args=(batch,)) for batch in (2, 3, 4, 5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not problems


def test_a_handle_of_a_refused_file_only_has_its_error(native: Any, library: Any) -> None:
    handle = ctypes.c_void_p()
    assert library.lib.vn_open_mem(b"nothing", ctypes.c_size_t(7), ctypes.byref(handle)) == 1
    model = native.Model(library.lib, handle)
    assert model.error().code == "BAD_MAGIC" and model.outputs == []
    with pytest.raises(native.RefusedError, match="refused when it was opened"):
        model.run(torch.zeros(1))
    other = ctypes.c_void_p()
    assert library.lib.vn_open(None, ctypes.byref(other)) == 1
    assert native.Model(library.lib, other).error().code == "FILE"
    assert library.lib.vn_run(None, None, ctypes.c_size_t(0), None) == 1
    library.lib.vn_close(None)
    library.lib.vn_result_free(None)


def test_results_are_the_callers(library: Any) -> None:
    """Outputs that are weights of the file, or the input itself, are copies that outlive the model."""
    model = library.open(stored_sample().pack())
    x = torch.rand(1, 3, 8, 8)
    outputs = model.run(x)
    kept = [one.clone() for one in outputs]
    x.zero_()
    del model
    assert all(torch.equal(a, b) for a, b in zip(outputs, kept, strict=True))


def test_opening_maps_the_file(library: Any, exported: Any, tmp_path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system has no /proc")
    path = tmp_path / "mapped.vnmodel"
    path.write_bytes(exported[1].read_bytes())
    model = library.open(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    del model
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_the_python_package(native: Any, library: Any, exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the wheel, with the library of this build."""
    spec = importlib.util.spec_from_file_location("amc_venus_runtime", native.RUNTIME / "python/amc_venus_runtime/__init__.py")
    assert spec is not None and spec.loader is not None
    package: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    monkeypatch.setattr(package, "_FOLDER", library.tool.parent)
    network, path = exported
    left, right = inputs()
    for threads, source in enumerate((path, str(path), path.read_bytes()), 1):
        model = package.Model(source, threads=threads)
        assert model.inputs == {"left": ("float32", (None, 6)), "right": ("float32", (None, 6))}
        assert len(model.outputs) == 3
        scores, best, positive = model.run([left.numpy(), right.numpy().T.copy().T])
        with torch.no_grad():
            expected = network(left, right)
        assert numpy.abs(scores - expected["scores"].numpy()).max() <= 1e-6 * expected["scores"].abs().max()
        assert (best == expected["best"][0].numpy()).all() and (positive == expected["best"][1].numpy()).all()
    with pytest.raises(package.VenusRuntimeError, match="expected was f32") as caught:
        model.run([left.numpy()[:, :5], right.numpy()])
    assert caught.value.code == "INPUT"
    with pytest.raises(package.VenusRuntimeError, match="an array of complex64"):
        model.run([left.numpy().astype("complex64"), right.numpy()])
    with pytest.raises(package.VenusRuntimeError) as caught:
        package.Model(path.read_bytes()[:-1])
    assert caught.value.code == "TRUNCATED"
    with pytest.raises(package.VenusRuntimeError, match="expected 1 to 256"):
        package.Model(path, threads=0)
    assert package.version().startswith("1.0 ")


def test_the_header_is_plain_c(native: Any, tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text('#include "vn.h"\nint main(void) { return vn_version() == 0; }\n')
    compiler = os.environ.get("CC", "cc")
    if not any((Path(folder) / compiler).exists() for folder in os.environ.get("PATH", "").split(os.pathsep)):
        pytest.skip("there is no C compiler")
    include = native.RUNTIME / "include"
    command = [
        compiler,
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "-fsyntax-only",
        f"-I{include}",
        str(tmp_path / "a.c"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
