"""The container alone: bytes, placement, mapping, versions, what the writer refuses."""

from __future__ import annotations

import errno
import os
import random
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_venus_export import Limits, VnModel, VnModelError, open_vnmodel, write_vnmodel
from amc_venus_export._crc import crc32
from amc_venus_export.drafts import sample

from amc_plugins.document import Ref


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.reshape(-1).view(torch.uint8).equal(b.reshape(-1).view(torch.uint8))


def refusal(code: str, call: Any, *args: Any, **kwargs: Any) -> VnModelError:
    with pytest.raises(VnModelError) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code, caught.value
    return caught.value


def test_every_dtype_and_shape_comes_back_bit_for_bit(make: Any, all_dtypes: Any, tmp_path: Path) -> None:
    document, tensors = make(**all_dtypes)
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors)
    for options in ({}, {"copy": True}, {"verify": False}):
        model = open_vnmodel(tmp_path / "a.vnmodel", generic=True, **options)
        assert list(model.tensors) == list(tensors)
        for name, tensor in tensors.items():
            assert same_bits(model.tensors[name], tensor), (name, options)


def test_the_header_is_what_the_specification_says(make: Any, tmp_path: Path) -> None:
    weight = torch.arange(20, dtype=torch.float32)
    document, tensors = make(first=weight, second=torch.tensor([7], dtype=torch.int8))
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors, model_id=9, model_base_size_hw=(3, 5))
    raw = (tmp_path / "a.vnmodel").read_bytes()
    magic, major, minor, flags, graph_bytes, offset, data_bytes, file_bytes = struct.unpack("<8sHHIQQQQ", raw[:48])
    graph_crc, header_crc, reserved = struct.unpack("<II8s", raw[48:64])
    assert (magic, major, minor, flags, reserved) == (b"\x89VNM\r\n\x1a\n", 1, 0, 0, bytes(8))
    assert file_bytes == len(raw) == offset + data_bytes
    assert offset % 64 == 0 and 0 <= offset - 64 - graph_bytes < 64
    assert graph_crc == zlib.crc32(raw[64 : 64 + graph_bytes]) and header_crc == zlib.crc32(raw[:52] + raw[56:64])
    graph = raw[64 : 64 + graph_bytes].decode()
    assert graph.startswith('{"model_id":9,"model_base_size_hw":[3,5],"document":' + document.to_json() + ',"tensors":[')
    assert data_bytes == 128 + 1 and raw[offset : offset + 80] == weight.numpy().tobytes() and raw[-1] == 7


def test_a_model_keeps_what_was_written(make: Any, tmp_path: Path) -> None:
    document, tensors = make(w=torch.ones(3))
    document.metadata = {"x-me": "…"}
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors, model_id=2**32 - 1, model_base_size_hw=(224, 112))
    model = open_vnmodel(tmp_path / "a.vnmodel", generic=True)
    assert (model.model_id, model.model_base_size_hw, model.align) == (2**32 - 1, (224, 112), 64)
    assert model.document.to_json() == document.to_json()


@pytest.mark.parametrize("align", [64, 4096])
def test_alignment_and_the_same_bytes_again(make: Any, tmp_path: Path, align: int) -> None:
    document, tensors = make(w=torch.rand(5), v=torch.rand(70))
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors, align=align)
    raw = (tmp_path / "a.vnmodel").read_bytes()
    assert int.from_bytes(raw[24:32], "little") % align == 0
    model = open_vnmodel(tmp_path / "a.vnmodel", generic=True)
    assert model.align == align and model.tensors["v"].data_ptr() % 64 == 0
    model.save(tmp_path / "b.vnmodel")
    assert (tmp_path / "b.vnmodel").read_bytes() == raw


def test_a_model_without_tensors(make: Any, tmp_path: Path) -> None:
    document, tensors = make()
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors)
    model = open_vnmodel(tmp_path / "a.vnmodel", generic=True)
    assert model.tensors == {} and (tmp_path / "a.vnmodel").stat().st_size % 64 == 0


def test_tensors_are_mapped_privately(make: Any, tmp_path: Path) -> None:
    document, tensors = make(w=torch.zeros(4))
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors)
    before = (tmp_path / "a.vnmodel").read_bytes()
    model = open_vnmodel(tmp_path / "a.vnmodel", generic=True)
    model.tensors["w"].fill_(1.0)
    assert (tmp_path / "a.vnmodel").read_bytes() == before
    assert open_vnmodel(tmp_path / "a.vnmodel", generic=True).tensors["w"].sum() == 0
    tensor = model.tensors["w"]
    del model
    assert tensor.sum() == 4  # the mapping lives as long as a tensor does


def test_unverified_opening_skips_only_the_tensors_checksums(make: Any, tmp_path: Path) -> None:
    document, tensors = make(w=torch.zeros(4))
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors)
    raw = bytearray((tmp_path / "a.vnmodel").read_bytes())
    raw[-1] ^= 1
    refusal("TENSOR_CRC", open_vnmodel, bytes(raw), generic=True)
    assert open_vnmodel(bytes(raw), generic=True, verify=False).tensors["w"][3] != 0
    raw[70] ^= 1
    refusal("GRAPH_CRC", open_vnmodel, bytes(raw), generic=True, verify=False)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 4097, 2**20 + 3])
def test_checksums_are_those_of_zlib(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert crc32(data) == zlib.crc32(data)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve")
def test_the_space_of_a_file_is_reserved_where_it_can_be(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, tensors = make(a=torch.rand(3, 50))
    plain, path = tmp_path / "plain.vnmodel", tmp_path / "a.vnmodel"
    write_vnmodel(plain, document, tensors)
    asked: list[int] = []

    def refuse(number: int) -> None:
        def reserve(file: int, offset: int, size: int) -> None:
            asked.append(size)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", reserve)

    refuse(errno.EOPNOTSUPP)  # a file system that cannot
    write_vnmodel(path, document, tensors)
    assert path.read_bytes() == plain.read_bytes() and asked == [len(plain.read_bytes())]
    refuse(errno.ENOSPC)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_vnmodel(tmp_path / "b.vnmodel", document, tensors)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.vnmodel", "plain.vnmodel"]


def test_strided_tensors_and_views_are_written_row_major(make: Any, tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    document, tensors = make(
        t=base.permute(2, 0, 1), v=base[:, 1], last=base.to(memory_format=torch.contiguous_format)[..., ::2]
    )
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors)
    model = open_vnmodel(tmp_path / "a.vnmodel", generic=True)
    assert all(same_bits(model.tensors[name], tensor.contiguous()) for name, tensor in tensors.items())


def test_parameters_keep_their_types(make: Any, tmp_path: Path) -> None:
    document, tensors = make()
    params = {
        "i": 1, "f": 1.0, "t": True, "none": None, "min": -(2**63), "tiny": 5e-324, "zero": -0.0, "inf": float("-inf"),
        "s": "ü\u2028",
        "mixed": [1, 1.0, True, None, "a", [2.5]], "size": Ref("x"), "sizes": [Ref("x"), 2], "map": {"k": [float("inf")]},
    }  # fmt: skip
    document.nodes[0].params = params
    write_vnmodel(tmp_path / "a.vnmodel", document, tensors)
    read = open_vnmodel(tmp_path / "a.vnmodel", generic=True).document.nodes[0].params
    assert repr(read) == repr(params)


def test_a_newer_minor_version_loads_without_what_is_unknown() -> None:
    draft = sample()
    draft.header["minor"] = 1
    draft.root["signature_of_somebody"] = "x"
    draft.document["nodes"][0]["fused"] = ["relu"]
    draft.document["extra"] = {}
    data = draft.place()
    draft.root["tensors"][0]["sparse"] = None
    model = open_vnmodel(draft.pack(data=data), generic=True)
    assert model.document.to_json() == open_vnmodel(sample().pack(), generic=True).document.to_json()
    draft.header["minor"] = 0
    refusal("SCHEMA_UNKNOWN", open_vnmodel, draft.pack(data=data), generic=True)


def test_flags_that_may_be_ignored_are() -> None:
    draft = sample()
    draft.header["flags"] = 0x8000_0000
    assert open_vnmodel(draft.pack(), generic=True).model_id == 7


def test_limits_are_the_readers_choice() -> None:
    raw = sample().pack()
    refusal("GRAPH_TOO_BIG", open_vnmodel, raw, limits=Limits(graph_bytes=100))
    refusal("TOO_MANY_NODES", open_vnmodel, raw, limits=Limits(nodes=3))
    refusal("TOO_MANY_TENSORS", open_vnmodel, raw, limits=Limits(tensors=3))
    refusal("ACTIVATIONS_TOO_BIG", open_vnmodel, raw, limits=Limits(activations=2000))
    assert open_vnmodel(raw, limits=Limits(activations=20_000)).checked


@pytest.mark.parametrize(
    "change, code",
    [
        (lambda d, t: t.pop("w"), "NOT_IN_TABLE"),
        (lambda d, t: t.update(v=torch.ones(1)), "NOT_IN_TABLE"),
        (lambda d, t: t.update(w=torch.ones(4)), "NOT_IN_TABLE"),
        (lambda d, t: t.update(w=torch.ones(3).half()), "NOT_IN_TABLE"),
        (lambda d, t: d.nodes[0].params.update(a=2**63), "INT_RANGE"),
        (lambda d, t: d.nodes[0].params.update(a={"$x": 1, "b": 2}), "PARAM_FORM"),
        (lambda d, t: d.nodes[0].params.update(a=object()), "PARAM_FORM"),
        (lambda d, t: d.metadata.update(a="\ud800"), "BAD_CHAR"),
        (lambda d, t: d.nodes[0].tensors.clear(), "TENSOR_UNUSED"),
        (lambda d, t: d.nodes[0].inputs.append("nothing"), "DANGLING_INPUT"),
        (lambda d, t: setattr(d, "outputs", {"tuple": ["y", {"const": object()}]}), "PARAM_FORM"),
        (lambda d, t: setattr(d, "outputs", "nothing"), "OUTPUT_UNKNOWN"),
    ],
)
def test_the_writer_refuses_and_leaves_the_old_file(make: Any, tmp_path: Path, change: Any, code: str) -> None:
    path = tmp_path / "a.vnmodel"
    document, tensors = make(w=torch.ones(3))
    write_vnmodel(path, document, tensors)
    before = path.read_bytes()
    change(document, tensors)
    refusal(code, write_vnmodel, path, document, tensors)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.vnmodel"]


@pytest.mark.parametrize(
    "options, code",
    [({"model_id": -1}, "MODEL_ID"), ({"model_base_size_hw": (0, 1)}, "BASE_SIZE"), ({"align": 32}, "DATA_MISALIGNED")],
)
def test_the_writer_checks_its_options(make: Any, tmp_path: Path, options: Any, code: str) -> None:
    refusal(code, write_vnmodel, tmp_path / "a.vnmodel", *make(), **options)
    assert not os.listdir(tmp_path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe", "a\0b"):
        refusal("FILE", open_vnmodel, path)


def test_big_endian_machines_are_refused(monkeypatch: pytest.MonkeyPatch, make: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    refusal("BYTE_ORDER", open_vnmodel, sample().pack())
    refusal("BYTE_ORDER", write_vnmodel, tmp_path / "a", *make())


def test_errors_are_values_that_travel() -> None:
    import pickle

    error = refusal("OP_UNKNOWN", VnModel(*_unknown()).network)
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.where, again.hint, str(again)) == (error.code, error.where, error.hint, str(error))
    assert isinstance(error, ValueError) and "com.acme.thing" in str(error)


def _unknown() -> Any:
    from amc_plugins.document import Document

    node = {"name": "n", "layer": "n", "op": "com.acme.thing", "inputs": ["x"], "outputs": ["y"]}
    plain = {"inputs": [{"name": "x", "dtype": "f32", "shape": [1]}], "signature": ["x"], "nodes": [node], "outputs": "y"}
    return Document.from_plain(plain), {}
