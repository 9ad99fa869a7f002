"""Properties over random documents and damaged files."""

from __future__ import annotations

import json
import random
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_venus_export import VnModelError, open_vnmodel, write_vnmodel
from amc_venus_export._writer import vnmodel_parts
from amc_venus_export.drafts import mutate, sample, stored_sample
from amc_venus_export.fuzz import fuzz, mutant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amc_plugins.document import Document

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])

DTYPES = {
    "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64, "i8": torch.int8,
    "u8": torch.uint8, "i16": torch.int16, "i32": torch.int32, "i64": torch.int64, "bool": torch.bool,
}  # fmt: skip

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
ops = st.from_regex(r"[a-z][a-z0-9_]{0,6}(\.[a-z0-9_]{1,6}){1,3}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text
keys = text.filter(lambda key: not key.startswith("$"))


@st.composite
def models(draw: Any) -> tuple[Document, dict[str, torch.Tensor]]:
    """A document of ops that nobody knows, with references, shared layers, nested structures and random tensors."""
    values = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    document: dict[str, Any] = {
        "producer": draw(text),
        "inputs": [
            {
                "name": name,
                "dtype": draw(st.sampled_from(list(DTYPES))),
                "shape": draw(st.lists(st.none() | st.integers(1, 9), max_size=4)),
            }
            for name in values
        ],
        "signature": [{"list": values}] if draw(st.booleans()) else list(values),
        "metadata": draw(st.dictionaries(text, text, max_size=3)),
    }
    free = draw(
        st.lists(names, min_size=1, max_size=6, unique=True).map(lambda found: [name for name in found if name not in values])
    )
    tensor_names = draw(st.lists(names, max_size=4, unique=True))
    nodes: list[dict[str, Any]] = []
    for i, value in enumerate(free):
        reference = st.sampled_from(values).map(lambda name: {"$value": name})
        param = st.recursive(
            scalars | reference,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
            max_leaves=5,
        )
        nodes.append({
            "name": value,
            "layer": f"layer {i}",
            "op": draw(ops),
            "op_version": draw(st.integers(1, 9)),
            "inputs": draw(st.lists(st.sampled_from(values), max_size=3)),
            "outputs": [value],
            "params": draw(st.dictionaries(keys, param, max_size=4)),
            "tensors": {f"slot {k}": name for k, name in enumerate(tensor_names)} if i == 0 else {},
            "source": draw(st.none() | text),
            "origin": draw(st.none() | names),
        })  # fmt: skip
        values = [*values, value]
    leaf = st.sampled_from(values)
    tree = st.recursive(
        leaf, lambda inner: st.fixed_dictionaries({"tuple": st.lists(inner, min_size=1, max_size=3)}), max_leaves=4
    )
    document["outputs"] = {"dict": {draw(text): draw(tree), "rest": {"const": draw(scalars)}}}
    tensors: dict[str, torch.Tensor] = {}
    numbers = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    document["tensors"] = []
    for name in tensor_names if nodes else []:
        dtype = draw(st.sampled_from(list(DTYPES)))
        shape = draw(st.lists(st.integers(0, 5), max_size=4))
        count = torch.Size(shape).numel() * DTYPES[dtype].itemsize
        raw = torch.randint(0, 2 if dtype == "bool" else 256, (count,), dtype=torch.uint8, generator=numbers)
        tensors[name] = raw.view(DTYPES[dtype]).reshape(shape)
        document["tensors"].append({"name": name, "dtype": dtype, "shape": shape})
    document["nodes"] = nodes
    return Document.from_plain(document), tensors


def written(document: Document, tensors: dict[str, torch.Tensor], **options: Any) -> bytes:
    size, parts = vnmodel_parts(document, tensors, **options)
    raw = b"".join(parts)
    assert len(raw) == size
    return raw


@QUICK
@given(
    models(), st.sampled_from([64, 4096]), st.integers(0, 2**32 - 1), st.none() | st.tuples(*[st.integers(1, 2**31 - 1)] * 2)
)
def test_write_read_write_is_the_same_bytes(model: Any, align: int, model_id: int, size: Any) -> None:
    document, tensors = model
    raw = written(document, tensors, align=align, model_id=model_id, model_base_size_hw=size)
    read = open_vnmodel(raw, generic=True)
    assert (read.model_id, read.model_base_size_hw) == (model_id, size)
    assert read.document.to_json() == document.to_json()
    assert list(read.tensors) == list(tensors)
    for name, tensor in tensors.items():
        assert read.tensors[name].dtype == tensor.dtype and read.tensors[name].shape == tensor.shape
        assert read.tensors[name].reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8))
    again = written(
        read.document, dict(read.tensors), align=read.align, model_id=read.model_id, model_base_size_hw=read.model_base_size_hw
    )
    assert again == raw


@settings(QUICK, max_examples=25)  # each writes four files to disk for good
@given(models())
def test_json_and_vnmodel_hold_the_same_document(model: Any) -> None:
    archive = pytest.importorskip("amc_archive_export._json", reason="amc-archive-export is not installed")
    document, tensors = model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        archive.write_json(path / "a.json", document, tensors)
        write_vnmodel(path / "a.vnmodel", *archive.read_json(path / "a.json"))
        assert (path / "a.vnmodel").read_bytes() == written(document, tensors)
        read = open_vnmodel(path / "a.vnmodel", generic=True)
        archive.write_json(path / "b.json", read.document, read.tensors)
        assert (path / "b.json").read_bytes() == (path / "a.json").read_bytes()
        raw = (path / "a.vnmodel").read_bytes()
        graph = json.loads(raw[64 : 64 + int.from_bytes(raw[16:24], "little")])
        assert json.dumps(graph["document"]) == json.dumps(json.loads((path / "a.json").read_bytes())["document"])


@settings(QUICK, max_examples=300)
@given(st.integers(0, 2**63), st.booleans())
def test_only_vnmodel_errors_escape(seed: int, stored: bool) -> None:
    raw = mutate(stored_sample() if stored else sample(), random.Random(seed))
    start = time.process_time()
    try:
        open_vnmodel(raw).network()
    except VnModelError as error:
        assert error.message
    assert time.process_time() - start < 2  # milliseconds, but for the first import of the handlers


def test_the_fuzzer_reports_what_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    import amc_venus_export

    assert mutant(3, 5) == mutant(3, 5) != mutant(3, 6)
    outcome = fuzz(range(40), seed=1)
    assert not outcome.leaks and sum(outcome.codes.values()) == 40 and len(outcome.codes) > 5

    def leaking(raw: bytes) -> Any:
        raise KeyError("a leak")

    calls = iter([amc_venus_export.open_vnmodel, leaking, leaking, leaking])
    monkeypatch.setattr(amc_venus_export, "open_vnmodel", lambda raw: next(calls)(raw), raising=False)  # noqa: PLW0108
    assert [index for index, _ in fuzz(range(2, 5)).leaks] == [2, 3, 4]


@settings(QUICK, max_examples=30)
@given(st.integers(0, 2**63))
def test_refusing_takes_little_memory(seed: int) -> None:
    raw = mutate(sample(), random.Random(seed))
    tracemalloc.start()
    try:
        open_vnmodel(raw, generic=True)
    except VnModelError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 64 * 2**20


@settings(QUICK, max_examples=200)
@given(st.data())
def test_any_change_of_any_byte_is_noticed(data: Any) -> None:
    raw = bytearray(data.draw(st.sampled_from([sample, stored_sample]))().pack())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VnModelError):
        open_vnmodel(bytes(raw))


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    with pytest.raises(VnModelError):
        open_vnmodel(raw)
