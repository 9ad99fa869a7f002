"""The `.pkl` archive: what is in it, and what its reader refuses."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_archive_export._pkl import PklExporter, read_pkl, write_pkl
from amc_archive_export.plugin import PklSettings
from torch import Tensor

from amc_plugins.document import DocumentError


def archive(document: Any, tensors: Any, changes: Any = None) -> dict[str, Any]:
    plain = {"format": "amc-archive", "version": [1, 0], "document": document.to_json(), "tensors": tensors}
    return {**plain, **(changes or {})}


def refused(path: Path, saved: Any, match: str) -> DocumentError:
    torch.save(saved, path)
    with pytest.raises(DocumentError, match=match) as caught:
        read_pkl(path)
    return caught.value


def test_every_dtype_comes_back_and_plain_torch_can_read_it(make: Any, all_dtypes: dict[str, Tensor], tmp_path: Path) -> None:
    document = make(all_dtypes)
    write_pkl(tmp_path / "a.pkl", document, all_dtypes)
    read, tensors = read_pkl(tmp_path / "a.pkl")
    assert read.to_json() == document.to_json() and list(tensors) == list(all_dtypes)
    assert PklExporter(PklSettings()).document(tmp_path / "a.pkl").to_json() == document.to_json()  # no op of it has a handler
    plain = torch.load(tmp_path / "a.pkl", weights_only=True)
    assert sorted(plain) == ["document", "format", "tensors", "version"]
    for name, tensor in all_dtypes.items():
        for one in (tensors[name], plain["tensors"][name]):
            assert one.dtype == tensor.dtype and one.shape == tensor.shape and one.is_contiguous()
            assert one.reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8)), name


def test_views_bring_no_baggage(make: Any, tmp_path: Path) -> None:
    base = torch.arange(100_000.0)
    tensors = {"all": base, "again": base.view(10, -1), "front": base[:10]}
    write_pkl(tmp_path / "a.pkl", make(tensors), tensors)
    _, read = read_pkl(tmp_path / "a.pkl")
    assert all(read[name].equal(tensor) for name, tensor in tensors.items())
    alone = {"front": base[10:20]}
    write_pkl(tmp_path / "b.pkl", make(alone), alone)
    assert (tmp_path / "b.pkl").stat().st_size < 10_000
    assert read_pkl(tmp_path / "b.pkl")[1]["front"].tolist() == list(range(10, 20))


def test_equal_contents_are_equal_bytes(make: Any, all_dtypes: dict[str, Tensor], tmp_path: Path) -> None:
    for name in ("a.pkl", "another name.pkl"):
        write_pkl(tmp_path / name, make(all_dtypes), {name: tensor.clone() for name, tensor in all_dtypes.items()})
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "another name.pkl").read_bytes()


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)

    def __init__(self, path: str) -> None:
        self.path = path


def test_a_hostile_pickle_is_refused_and_does_not_run(make: Any, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    hostile = archive(make({}), {"w": Hostile(str(trap))})
    error = refused(tmp_path / "a.pkl", hostile, "asks for code to run")
    assert not trap.exists() and "weights_only=False" in str(error.hint) and error.exit_code == 2
    assert "mkdir" in str(error) and "likely succeed" not in str(error), "what torch found, not its advice to load it anyway"
    torch.load(tmp_path / "a.pkl", weights_only=False)
    assert trap.is_dir()  # the file was loaded for real


def test_a_hostile_pickle_outside_an_archive_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Hostile(str(trap))))
    with pytest.raises(DocumentError, match="not a torch archive"):
        read_pkl(tmp_path / "a.pkl")
    assert not trap.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "a.pkl", torch.nn.Linear(2, 2), "asks for code to run")


def test_a_checkpoint_is_told_apart(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.pkl", torch.nn.Linear(2, 2).state_dict(), "not one of the `pkl` exporter")
    assert "--weights" in str(error.hint)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"format": "x"}, "expected 'amc-archive'"),
        ({"version": [2, 0]}, "this reader knows"),
        ({"version": "1.0"}, "expected"),
        ({"document": {}}, "must be text"),
        ({"document": "{"}, "JSON_SYNTAX"),
        ({"document": "\ud800"}, "."),
        ({"document": '{"a":' * 50 + "1" + "}" * 50}, "JSON_DEPTH"),
        ({"tensors": []}, "must be text"),
        ({"tensors": {}}, "`w` is missing"),
        ({"tensors": {"w": torch.ones(3), "v": torch.ones(1)}}, "`v` is not in"),
        ({"tensors": {"w": torch.ones(4)}}, r"\[4\]"),
        ({"tensors": {"w": torch.ones(3).double()}}, "float64"),
        ({"tensors": {"w": torch.ones(1).expand(3)}}, "not a plain contiguous tensor"),
        ({"tensors": {"w": torch.ones(3).to_sparse()}}, "not a plain contiguous tensor"),
        ({"tensors": {"w": torch.nn.Parameter(torch.ones(3))}}, "not a plain contiguous tensor"),
        ({"tensors": {"w": [1.0, 2.0]}}, "not a plain contiguous tensor"),
        ({"tensors": {3: torch.ones(3)}}, "by name"),
        ({"more": 1}, "not one of the `pkl` exporter"),
    ],
)
def test_what_is_no_archive_of_ours(make: Any, tmp_path: Path, changes: Any, match: str) -> None:
    document = make({"w": torch.ones(3)})
    refused(tmp_path / "a.pkl", archive(document, {"w": torch.ones(3)}, changes), match)


def test_bool_bytes_other_than_0_and_1_are_refused(make: Any, tmp_path: Path) -> None:
    bad = torch.tensor([0, 2], dtype=torch.uint8).view(torch.bool)
    refused(tmp_path / "a.pkl", archive(make({"w": bad}), {"w": bad}), "other than 0 and 1")


def repacked(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as source:
        entries = [(info.filename, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in entries:
            target.writestr(name, change(name, data))


def test_a_tensor_larger_than_the_file_is_refused_before_it_is_allocated(make: Any, tmp_path: Path) -> None:
    """The pickle claims 2^40 floats, as the document does; the file's storage has 63, or claims as many too."""
    document = make({"w": torch.empty(2**20, 2**20, device="meta")})
    million, many = b"J\0\0\x10\0", b"\x8a\x06" + (2**40).to_bytes(6, "little")  # BININT and LONG1
    tensor = ((b"K\x07K\x09\x86", million * 2 + b"\x86"), (b"K\x09K\x01\x86", million + b"K\x01\x86"))
    for changes in (tensor, ((b"K\x3f", many), *tensor)):
        torch.save(archive(document, {"w": torch.ones(7, 9)}), tmp_path / "a.pkl")

        def lie(name: str, data: bytes, changes: Any = changes) -> bytes:
            if name.endswith("data.pkl"):
                for honest, claim in changes:
                    assert data.count(honest) == 1
                    data = data.replace(honest, claim)
            return data

        repacked(tmp_path / "a.pkl", lie)
        with pytest.raises(DocumentError, match="claims tensors of 4398046511104"):
            read_pkl(tmp_path / "a.pkl")


def test_compressed_entries_are_refused(make: Any, tmp_path: Path) -> None:
    zeros = {"w": torch.zeros(10**6)}
    write_pkl(tmp_path / "a.pkl", make(zeros), zeros)
    repacked(tmp_path / "a.pkl", lambda name, data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(DocumentError, match="compressed entry"):
        read_pkl(tmp_path / "a.pkl")


def test_damaged_files_are_refused(make: Any, tmp_path: Path) -> None:
    tensors = {"w": torch.arange(50.0)}
    write_pkl(tmp_path / "a.pkl", make(tensors), tensors)
    raw = (tmp_path / "a.pkl").read_bytes()
    for damaged in (b"", raw[:1000], raw[: len(raw) - 30], raw[100:], struct.pack("<Q", 3) + raw[8:]):
        (tmp_path / "b.pkl").write_bytes(damaged)
        with pytest.raises(DocumentError):
            read_pkl(tmp_path / "b.pkl")


@pytest.mark.parametrize("seed", range(8))
def test_random_damage_raises_document_errors_only(make: Any, tmp_path: Path, seed: int) -> None:
    import random

    numbers = random.Random(seed)
    tensors = {"w": torch.arange(5.0), "b": torch.tensor([True])}
    write_pkl(tmp_path / "a.pkl", make(tensors), tensors)
    raw = (tmp_path / "a.pkl").read_bytes()
    refusals = 0
    for _ in range(25):
        damaged = bytearray(raw)
        for _ in range(numbers.randint(1, 3)):
            damaged[numbers.randrange(len(raw))] = numbers.getrandbits(8)
        (tmp_path / "b.pkl").write_bytes(damaged)
        try:
            read_pkl(tmp_path / "b.pkl")
        except DocumentError:
            refusals += 1
    assert refusals


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "missing", "pipe"):
        with pytest.raises(DocumentError):
            read_pkl(tmp_path / name)


def test_the_writer_refuses_foreign_tensors_and_leaves_the_old_file(make: Any, tmp_path: Path) -> None:
    tensors = {"w": torch.ones(3)}
    document = make(tensors)
    write_pkl(tmp_path / "a.pkl", document, tensors)
    before = (tmp_path / "a.pkl").read_bytes()
    for wrong in ({}, {"w": torch.ones(2)}, {"w": torch.ones(3).half()}, {**tensors, "v": torch.ones(1)}):
        with pytest.raises(DocumentError):
            write_pkl(tmp_path / "a.pkl", document, wrong)
    assert (tmp_path / "a.pkl").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_archive_does_not_know_its_path(make: Any, tmp_path: Path) -> None:
    write_pkl(tmp_path / "secret name.pkl", make({}), {})
    assert b"secret" not in (tmp_path / "secret name.pkl").read_bytes()
    with zipfile.ZipFile(io.BytesIO((tmp_path / "secret name.pkl").read_bytes())) as file:
        assert all(name.startswith("archive/") for name in file.namelist())
