"""The `.json` archive: readable, exact, strictly read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_archive_export import _json
from amc_archive_export._json import read_json, write_json
from amc_archive_export._pretty import pretty
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.document import DocumentError, Ref, StrictJsonError, parse_strict


def test_every_dtype_comes_back_bit_for_bit(make: Any, all_dtypes: dict[str, Tensor], tmp_path: Path) -> None:
    document = make(all_dtypes)
    write_json(tmp_path / "a.json", document, all_dtypes)
    read, tensors = read_json(tmp_path / "a.json")
    assert tensors is not None and read.to_json() == document.to_json() and list(tensors) == list(all_dtypes)
    for name, tensor in all_dtypes.items():
        assert tensors[name].dtype == tensor.dtype and tensors[name].shape == tensor.shape
        assert tensors[name].reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8)), name
    write_json(tmp_path / "b.json", read, tensors)
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def test_it_is_json_that_people_can_read(make: Any, tmp_path: Path) -> None:
    tensors = {"w": torch.tensor([1.0, 2.0])}
    params = {
        "stride": [2, 2],
        "eps": 1.0,
        "groups": 1,
        "size": [Ref("x"), -1],
        "low": float("-inf"),
        "on": True,
        "title": "größe",
    }
    write_json(tmp_path / "a.json", make(tensors, **params), tensors)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    for line in (
        '"stride": [2, 2]',
        '"eps": 1.0',
        '"groups": 1',
        '[{"$value": "x"}, -1]',
        '"low": {"$f": "-inf"}',
        '"title": "größe"',
    ):
        assert line in text, line
    assert '"data": {\n    "w": "AACAPwAAAEA="\n  }' in text.replace('{"w": "AACAPwAAAEA="}', '{\n    "w": "AACAPwAAAEA="\n  }')
    assert json.loads(text)["document"]["nodes"][0]["params"]["eps"] == 1.0
    read, _ = read_json(tmp_path / "a.json")
    assert repr(read.nodes[0].params) == repr(params)


text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=40,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), plain, max_size=4), st.integers(0, 8))
def test_pretty_json_is_the_same_data(value: Any, indent: int) -> None:
    assert repr(parse_strict(pretty(value, indent).encode(), max_depth=64)) == repr(value)


def refused(path: Path, plain: Any, match: str) -> None:
    path.write_bytes(plain if isinstance(plain, bytes) else json.dumps(plain).encode())
    with pytest.raises(DocumentError, match=match):
        read_json(path)


def changed(plain: Any, *keys: Any, to: Any) -> Any:
    copied = json.loads(json.dumps(plain))
    holder = copied
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = to
    return copied


def test_what_is_no_file_of_ours(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    tensors = {"w": torch.ones(3), "flag": torch.tensor([True])}
    write_json(path, make(tensors, stride=1), tensors)
    good = json.loads(path.read_text())
    doc = ("document",)
    for keys, value, match in [
        (("format",), "onnx", "expected 'amc-network'"),
        (("version",), [2, 0], "this reader knows"),
        (("version",), True, "expected"),
        (("tensors",), "hex", "tensors='hex'"),
        (("tensors",), "none", "has the keys"),
        (("more",), 1, "has the keys"),
        ((*doc, "version"), [2, 0], "version 2.0"),
        ((*doc, "nodes", 0, "op_version"), True, "another type"),
        ((*doc, "nodes", 0, "op_version"), "1", "another type"),
        ((*doc, "tensors", 0, "shape"), [3.0], "another type"),
        ((*doc, "tensors", 0, "shape"), [-3], "greater than or equal"),
        ((*doc, "tensors", 0, "shape"), [4], "not the base64 of 16 bytes"),
        ((*doc, "tensors", 0, "shape"), [2**31 - 1] * 4, "too large"),
        ((*doc, "tensors", 0, "dtype"), "f64", "not the base64 of 24 bytes"),
        ((*doc, "tensors", 1, "name"), "w", "names the tensor `flag`"),
        (
            (*doc, "tensors"),
            [{"name": name, "dtype": "f32", "shape": []} for name in ("w", "flag", "w")],
            "12 bytes|4 bytes|one name",
        ),
        ((*doc, "nodes", 0, "inputs"), ["nothing"], "before anything makes it"),
        ((*doc, "nodes", 0, "params"), {"stride": {"$value": []}}, "not the name of a value"),
        ((*doc, "nodes", 0, "params"), {"stride": {"$f": "1"}}, "not a float"),
        ((*doc, "nodes", 0, "run"), "x", "Extra inputs"),
        ((*doc, "outputs"), {"tuple": [[]]}, "not a structure"),
        (("data", "w"), "A" * 15 + "=", "has 11 bytes"),
        (("data", "w"), "*" * 16, "not base64|base64"),
        (("data", "w"), "ü" * 16, "base64"),
        (("data", "w"), 5, "not the base64 of 12 bytes"),
        (("data", "flag"), "Ag==", "other than 0 and 1"),
        (("data", "v"), "", "exactly the tensors"),
        (("data",), [], "exactly the tensors"),
    ]:
        refused(path, changed(good, *keys, to=value), match)
    del good["document"]["producer"]
    refused(path, good, "a field is missing")


@pytest.mark.parametrize(
    "raw, code",
    [
        (b"", "JSON_START"),
        (b"[]", "JSON_START"),
        (b'{"a": 1', "JSON_SYNTAX"),
        (b'{"a": 1} x', "JSON_SYNTAX"),
        (b'{"a":' + b"[" * 10**6, "JSON_DEPTH"),
        (b'{"a":"' + b"[" * 100 + b'"}', None),
        (b'{"a":"\\"' + b"[" * 100 + b'"}', None),
        (b'{"a": 1, "a": 2}', "JSON_DUP_KEY"),
        (b'{"b": {"a": 1, "\\u0061": 2}}', "JSON_DUP_KEY"),
        (b'{"a": NaN}', "NUMBER_NONFINITE"),
        (b'{"a": -Infinity}', "NUMBER_NONFINITE"),
        (b'{"a": 1e999}', "NUMBER_NONFINITE"),
        (b'{"a": 9223372036854775808}', "INT_RANGE"),
        (b'{"a": -9223372036854775808}', None),
        (b'{"a": ' + b"9" * 10**5 + b"}", "INT_RANGE"),
        (b'{"a": "\xff"}', "BAD_UTF8"),
        (b'{"a": "\xed\xa0\x80"}', "BAD_UTF8"),
        (b'{"a": "\\ud800"}', "BAD_CHAR"),
        (b'{"\\udfff": 1}', "BAD_CHAR"),
        (b'{"a": ["\\ud83d\\ude00"]}', None),
        (b'{"a": [' + b"1," * 5 * 10**6 + b"1]}", "JSON_TOO_MANY"),
        (b"\xef\xbb\xbf{}", "JSON_START"),
        (b'{"' + b'\\"' * 10**6, "JSON_SYNTAX"),
    ],
)
def test_strict_json(raw: bytes, code: str | None) -> None:
    if code is None:
        assert parse_strict(raw) == json.loads(raw)
        return
    with pytest.raises(StrictJsonError) as caught:
        parse_strict(raw)
    assert caught.value.code == code and isinstance(caught.value, DocumentError)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0d8ea1.e-+ \n', max_size=60).map(str.encode))
def test_strict_json_accepts_no_more_than_json(raw: bytes) -> None:
    try:
        parsed = parse_strict(raw, max_depth=4)
    except StrictJsonError:
        return
    assert repr(parsed) == repr(json.loads(raw))


def test_large_files_and_other_paths_are_refused(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", make({}), {})
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "missing", "pipe"):
        with pytest.raises(DocumentError):
            read_json(tmp_path / name)
    monkeypatch.setattr(_json, "MAX_FILE_BYTES", 100)
    with pytest.raises(DocumentError, match="at most 100"):
        read_json(tmp_path / "a.json")


def test_what_would_not_be_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = amc.capture(nn.Linear(30, 10), torch.zeros(1, 30))
    size = 4 * (1200 // 3) + 4 * ((40 + 2) // 3)
    monkeypatch.setattr(_json, "MAX_FILE_BYTES", size - 1)
    with pytest.raises(DocumentError, match=f"take {size} bytes of a .json file, at most {size - 1} are read"):
        amc.export(network, "json", tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
    amc.export(network, "json", tmp_path / "a.json", verify=False, tensors="none")


def test_big_endian_machines_are_refused(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json.sys, "byteorder", "big")
    with pytest.raises(DocumentError, match="little-endian"):
        write_json(tmp_path / "a.json", make({"w": torch.ones(1)}), {"w": torch.ones(1)})
