"""The corpus of malformed files: what every reader of the format must refuse, and with which code.

The files are made, not stored. `python -m amc_venus_export.hostile FOLDER` writes them with an index for testing a reader in
another language. Numbers 1 to 81 are those of the first list of such files; higher ones came later.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_venus_export._forging import drop, edit, flip, put, raw, sealed, text
from amc_venus_export._header import seal
from amc_venus_export.drafts import Draft, sample, stored_sample

__all__ = ["CASES", "Case", "main"]


@dataclass(frozen=True)
class Case:
    """One bad file. `strict`: its structure is sound, only a reader that knows the ops refuses it."""

    number: int
    title: str
    code: str
    make: Callable[[], bytes]
    strict: bool = False


def _u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def _data(file: bytes) -> int:
    return int.from_bytes(file[24:32], "little")


def _graph_end(file: bytes) -> int:
    return 64 + int.from_bytes(file[16:24], "little")


def _deep(depth: int) -> bytes:
    return b'{"a":' + b"[" * depth + b"]" * depth + b"}"


NODES = ("document", "nodes")
STEM, NORM, ACT, AGAIN, SUM, HEIGHT, DOUBLE, UP, MASK = range(9)
TABLE = ("document", "tensors")


def _stem(key: str, value: Any) -> Callable[[], bytes]:
    return put(*NODES, STEM, "params", key, to=value)


def _add_node(**changes: Any) -> Callable[[], bytes]:
    def change(draft: Draft) -> None:
        node = {**draft.document["nodes"][ACT], "name": "more", "layer": "more", "outputs": ["more"], **changes}
        draft.document["nodes"].append(node)

    return edit(change)


def _resized(data: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    def make() -> bytes:
        draft = sample()
        return draft.pack(data=data(draft.place()))

    return make


def _spread(draft: Draft) -> bytes:
    """The data with 64 bytes left free after the first tensor."""
    data = draft.place()
    second = draft.root["tensors"][1]["offset"]
    for place in draft.root["tensors"][1:]:
        place["offset"] += 64
    return data[:second] + bytes(64) + data[second:]


def _gap() -> bytes:
    draft = sample()
    data = _spread(draft)
    return draft.pack(data=data)


def _polyglot() -> bytes:
    draft = sample()
    data = draft.place()
    first = draft.root["tensors"][1]
    end = first["offset"] + first["nbytes"]
    return draft.pack(data=data[:end] + b"#" + data[end + 1 :])


def _bool_two() -> bytes:
    draft = sample()
    draft.blobs["mask/value"] = b"\1\0\2\1"
    return draft.pack()


def _tensor(shape: list[int], dtype: str, blob: bytes) -> Callable[[], bytes]:
    def change(draft: Draft) -> None:
        draft.document["tensors"][0].update(shape=shape, dtype=dtype)
        draft.blobs["stem/weight"] = blob

    return edit(change)


def _form(name: str, form: Any, blob: bytes | None = None) -> Callable[[], bytes]:
    """The sample whose weight is stored as int8, with another form, or other bytes, of one tensor."""

    def make() -> bytes:
        draft = stored_sample()
        draft.forms[name] = form
        if blob is not None:
            draft.blobs[name] = blob
        return draft.pack()

    return make


def _scaled(scale: float) -> Callable[[], bytes]:
    return _form("stem/weight", _INT8, bytes(128) + struct.pack("<4f", 1.0, scale, 0.5, 0.5))


_INT8 = {"scheme": "int8", "axis": 0}


def _upsampled() -> bytes:
    draft = sample()
    draft.document["nodes"][DOUBLE]["params"]["operands"] = [2**20, 1]
    return draft.pack()


def _towers() -> bytes:
    """Integers squared sixty times over: 2^60 bits, if a reader computes on."""
    draft = sample()
    for i in range(60):
        last = "height" if not i else f"tower{i - 1}"
        node = {**draft.document["nodes"][DOUBLE], "name": f"tower{i}", "layer": f"tower{i}", "outputs": [f"tower{i}"]}
        draft.document["nodes"].append({**node, "params": {"fn": "mul", "operands": [{"$value": last}, {"$value": last}]}})
    return draft.pack()


def _small() -> bytes:
    draft = sample()
    draft.document["nodes"][STEM]["params"]["padding"] = [0, 0]
    draft.document["inputs"][0]["shape"] = [None, 3, 2, 2]
    return draft.pack()


def _far() -> bytes:
    """The data two pages behind the graph, nothing but zeros between."""
    file = sample().pack()
    start, size = _data(file), len(file) + 8192
    front = file[:24] + _u64(start + 8192) + file[32:40] + _u64(size) + file[48:64]
    return seal(front) + file[64:start] + bytes(8192) + file[start:]


def _pad(*amounts: int) -> Callable[[], bytes]:
    return _stem("padding", list(amounts))


CASES: tuple[Case, ...] = (
    # container
    Case(1, "empty file", "TRUNCATED_HEADER", lambda: b""),
    Case(2, "63 bytes", "TRUNCATED_HEADER", raw(lambda file: file[:63])),
    Case(3, "other magic", "BAD_MAGIC", raw(lambda file: b"PK\3\4" + file[4:])),
    Case(4, "magic after a text-mode transfer", "BAD_MAGIC_TEXTMODE", raw(lambda file: file.replace(b"\r\n", b"\n"))),
    Case(5, "major version 2", "VERSION_UNSUPPORTED", sealed(8, b"\2\0")),
    Case(6, "a bit of the header", "HEADER_CRC", flip(lambda file: 20)),
    Case(7, "unknown must-know flag", "FLAG_UNKNOWN", sealed(12, b"\0\x80\0\0")),
    Case(8, "reserved bytes", "RESERVED_NONZERO", sealed(60, b"\1")),
    Case(9, "cut in the data", "TRUNCATED", raw(lambda file: file[:-5])),
    Case(10, "a zip appended", "TRAILING_BYTES", raw(lambda file: file + b"PK\5\6" + bytes(18))),
    Case(11, "graph of 2^63 bytes", "GRAPH_TOO_BIG", sealed(16, _u64(2**63))),
    Case(12, "graph past the file", "GRAPH_RANGE", sealed(16, _u64(2**23))),
    Case(13, "data misaligned", "DATA_MISALIGNED", raw(lambda f: seal(f[:24] + _u64(_data(f) + 4) + f[32:64]) + f[64:])),
    Case(14, "data inside the graph", "DATA_RANGE", sealed(24, _u64(128))),
    Case(15, "data of 2^64-1 bytes", "DATA_RANGE", sealed(32, _u64(2**64 - 1))),
    Case(16, "a bit of the graph", "GRAPH_CRC", flip(lambda file: 200)),
    Case(17, "a bit of the data", "TENSOR_CRC", flip(lambda file: _data(file) + 9)),
    Case(18, "bytes hidden in the padding", "PADDING_NONZERO", flip(_graph_end)),
    # JSON
    Case(19, "invalid UTF-8", "BAD_UTF8", text(lambda graph: graph.replace(b'"sample"', b'"\xff\xfe"'))),
    Case(20, "lone surrogate", "BAD_CHAR", text(lambda graph: graph.replace(b'"sample"', b'"\\ud800"'))),
    Case(21, "not an object", "JSON_START", text(lambda graph: b"[" + graph + b"]")),
    Case(22, "cut JSON", "JSON_SYNTAX", text(lambda graph: graph[:-9])),
    Case(23, "nested 100000 deep", "JSON_DEPTH", text(lambda graph: _deep(100_000))),
    Case(
        24,
        "repeated key",
        "JSON_DUP_KEY",
        text(lambda graph: graph.replace(b'{"model_id":7', b'{"model_id":7,"model_id":8', 1)),
    ),
    Case(25, "NaN literal", "NUMBER_NONFINITE", text(lambda graph: graph.replace(b"1e-05", b"NaN"))),
    Case(26, "400-digit integer", "INT_RANGE", text(lambda graph: graph.replace(b'"model_id":7', b'"model_id":' + b"9" * 400))),
    Case(27, "float for an integer", "SCHEMA_TYPE", put(*NODES, STEM, "op_version", to=1.0)),
    Case(28, "missing key", "SCHEMA_MISSING", drop("document", "outputs")),
    Case(29, "unknown key", "SCHEMA_UNKNOWN", put(*NODES, ACT, "run", to="rm")),
    Case(30, "list for an object", "SCHEMA_TYPE", put(*NODES, ACT, to=[])),
    # fields
    Case(31, "negative model_id", "MODEL_ID", put("model_id", to=-1)),
    Case(32, "base size 0", "BASE_SIZE", put("model_base_size_hw", to=[0, 8])),
    Case(33, "metadata that is no text", "METADATA", put("document", "metadata", "title", to=3)),
    Case(34, "empty name", "NAME_EMPTY", put(*NODES, ACT, "name", to="")),
    Case(35, "name of 1 MB", "NAME_TOO_LONG", put(*NODES, ACT, "name", to="n" * 2**20)),
    Case(36, "NUL in a name", "NAME_BAD_CHAR", put(*NODES, ACT, "name", to="a\0b")),
    # tensors
    Case(37, "negative dimension", "DIM_NEGATIVE", put(*TABLE, 0, "shape", to=[-4, 3, 3, 3])),
    Case(38, "huge dimension", "DIM_TOO_BIG", put(*TABLE, 0, "shape", to=[2**31, 3, 3, 3])),
    Case(39, "product overflows", "SHAPE_OVERFLOW", put(*TABLE, 0, "shape", to=[2**31 - 1] * 3)),
    Case(40, "rank 9", "RANK", put(*TABLE, 0, "shape", to=[4, 3, 3, 3, 1, 1, 1, 1, 1])),
    Case(41, "bool for a dimension", "DIM_TYPE", put(*TABLE, 1, "shape", to=[True])),
    Case(42, "input dimension 0", "DIM_ZERO", put("document", "inputs", 0, "shape", to=[None, 0, 8, 8])),
    Case(43, "shape and bytes differ", "TENSOR_NBYTES", put(*TABLE, 0, "shape", to=[4, 3, 3, 2])),
    Case(44, "dtype changed", "TENSOR_NBYTES", put(*TABLE, 0, "dtype", to="f16")),
    Case(45, "unknown dtype", "DTYPE_UNKNOWN", put(*TABLE, 0, "dtype", to="f8")),
    Case(46, "overlap", "TENSOR_OVERLAP", put("tensors", 2, "offset", to=448)),
    Case(47, "hole", "TENSOR_GAP", _gap),
    Case(48, "misaligned tensor", "TENSOR_MISALIGNED", put("tensors", 1, "offset", to=452)),
    Case(49, "tensor past the end", "TENSOR_RANGE", _resized(lambda data: data[:-1])),
    Case(50, "bytes after the last tensor", "DATA_UNCLAIMED", _resized(lambda data: data + bytes(4))),
    Case(51, "two tensors of one name", "TENSOR_DUP_NAME", put(*TABLE, 2, "name", to="stem/bias")),
    Case(52, "tensor nobody uses", "TENSOR_UNUSED", drop(*NODES, MASK, "tensors", "value")),
    Case(53, "int8 without scales", "TENSOR_NBYTES", _form("stem/weight", _INT8, bytes(108))),
    Case(54, "a scale less than channels", "TENSOR_NBYTES", _form("stem/weight", _INT8, bytes(128 + 3 * 4))),
    Case(55, "an integer stored as float16", "QUANT_DTYPE", _form("norm/num_batches_tracked", {"scheme": "float16"}, bytes(2))),
    # graph
    Case(56, "cycle", "CYCLE_OR_ORDER", put(*NODES, NORM, "inputs", to=["act@1"])),
    Case(57, "self-loop", "CYCLE_OR_ORDER", put(*NODES, ACT, "inputs", to=["act"])),
    Case(58, "dangling input", "DANGLING_INPUT", put(*NODES, ACT, "inputs", to=["nothing"])),
    Case(59, "two nodes make one value", "VALUE_DUP", put(*NODES, ACT, "outputs", to=["norm"])),
    Case(60, "node makes the input", "VALUE_SHADOWS_INPUT", put(*NODES, ACT, "outputs", to=["x"])),
    Case(61, "two nodes of one name", "NODE_DUP_NAME", put(*NODES, ACT, "name", to="norm")),
    Case(62, "output nobody makes", "OUTPUT_UNKNOWN", put("document", "outputs", to="nothing")),
    Case(63, "no outputs", "OUTPUTS_EMPTY", put("document", "outputs", to={"tuple": []})),
    # ops
    Case(64, "unknown op", "OP_UNKNOWN", _add_node(op="com.acme.nothing"), strict=True),
    Case(65, "op id with a path", "OP_ID", put(*NODES, ACT, "op", to="vn.relu/../../x")),
    Case(66, "op version from the future", "OP_VERSION", _add_node(op_version=99), strict=True),
    Case(67, "wrong number of inputs", "OP_ARITY", _add_node(inputs=["act", "norm"]), strict=True),
    Case(68, "missing parameter", "PARAM_MISSING", drop(*NODES, STEM, "params", "in_channels"), strict=True),
    Case(69, "unknown parameter", "PARAM_UNKNOWN", _stem("strides", [1, 1]), strict=True),
    Case(70, "stride 0", "PARAM_RANGE", _stem("stride", [0, 0]), strict=True),
    Case(71, "groups 0", "PARAM_RANGE", _stem("groups", 0), strict=True),
    Case(72, "parameter of the wrong type", "PARAM_TYPE", _stem("groups", "one"), strict=True),
    Case(73, "nested object for a parameter", "PARAM_TYPE", _stem("groups", {"a": {"b": 1}}), strict=True),
    Case(74, "mixed list", "PARAM_TYPE", _stem("stride", [1, "a"]), strict=True),
    Case(75, "tensor missing", "SLOT_MISMATCH", _add_node(op="vn.constant", inputs=[]), strict=True),
    Case(76, "unknown slot", "SLOT_MISMATCH", put(*NODES, STEM, "tensors", "scale", to="stem/bias"), strict=True),
    Case(77, "slot that names no tensor", "SLOT_DANGLING", put(*NODES, STEM, "tensors", "scale", to="nothing")),
    Case(78, "tensor of the wrong shape", "SLOT_MISMATCH", _tensor([3, 4, 3, 3], "f32", bytes(432)), strict=True),
    Case(79, "unlike shapes added", "SHAPE_RULE", put(*NODES, SUM, "inputs", to=["act", "x"]), strict=True),
    Case(80, "kernel larger than the image", "SHAPE_RULE", _small, strict=True),
    Case(81, "a small file that asks for terabytes", "ACTIVATIONS_TOO_BIG", _upsampled, strict=True),
    # later
    Case(82, "line feeds made CR-LF", "BAD_MAGIC_TEXTMODE", raw(lambda file: file.replace(b"\n", b"\r\n"))),
    Case(83, "bits above the seventh stripped", "BAD_MAGIC_TEXTMODE", raw(lambda file: bytes(byte & 127 for byte in file))),
    Case(84, "data far behind the graph", "DATA_RANGE", _far),
    Case(85, "bytes hidden between tensors", "PADDING_NONZERO", _polyglot),
    Case(86, "a float of 1e999", "NUMBER_NONFINITE", text(lambda graph: graph.replace(b"1e-05", b"1e999"))),
    Case(87, "millions of items", "JSON_TOO_MANY", text(lambda graph: b'{"a":[' + b"1," * 4_000_000 + b"1]}")),
    Case(88, "unterminated string of quotes", "JSON_SYNTAX", text(lambda graph: b'{"' + b'\\"' * 200_000)),
    Case(89, "other document format", "FORMAT", put("document", "format", to="onnx")),
    Case(90, "document version 2", "FORMAT", put("document", "version", to=[2, 0])),
    Case(91, "metadata of 2 MB", "METADATA_TOO_BIG", put("document", "metadata", to={"a": "b" * 2**21})),
    Case(92, "reference that is no name", "SCHEMA_TYPE", _stem("groups", {"$value": []})),
    Case(93, "float form that is none", "PARAM_FORM", _stem("groups", {"$f": "1.5"})),
    Case(94, "unknown form of a parameter", "PARAM_FORM", _stem("groups", {"$run": "x", "a": 1})),
    Case(95, "outputs that are no structure", "TREE", put("document", "outputs", to={"tuple": [], "list": []})),
    Case(96, "100001 nodes", "TOO_MANY_NODES", put("document", "nodes", to=[0] * 100_001)),
    Case(97, "100001 tensors", "TOO_MANY_TENSORS", put("document", "tensors", to=[0] * 100_001)),
    Case(
        98,
        "placements in another order",
        "TENSOR_TABLE",
        edit(lambda draft: draft.blobs.update({"stem/bias": draft.blobs.pop("stem/bias")})),
    ),
    Case(99, "bool that is 2", "BOOL_VALUE", _bool_two),
    Case(100, "signature without the input", "SIGNATURE", put("document", "signature", to=[])),
    Case(101, "node without outputs", "NODE_NO_OUTPUT", put(*NODES, ACT, "outputs", to=[])),
    Case(102, "one layer, two ops", "LAYER_CONFLICT", put(*NODES, AGAIN, "op", to="vn.relu6")),
    Case(103, "one layer, two sets of parameters", "LAYER_CONFLICT", put(*NODES, AGAIN, "params", to={"inplace": True})),
    Case(104, "reference to a later value", "CYCLE_OR_ORDER", _stem("groups", {"$value": "height"})),
    Case(105, "op version 0", "OP_VERSION", put(*NODES, ACT, "op_version", to=0)),
    Case(106, "negative offset", "TENSOR_RANGE", put("tensors", 0, "offset", to=-64)),
    Case(107, "empty tensor whose strides overflow", "SHAPE_OVERFLOW", _tensor([0] + [2**31 - 1] * 4, "f32", b"")),
    Case(108, "an opaque node", "OP_ID", _add_node(op="opaque")),
    Case(109, "true for an integer parameter", "PARAM_TYPE", _stem("groups", True), strict=True),
    Case(110, "integers that square and square", "SHAPE_RULE", _towers, strict=True),
    Case(
        111, "division by zero", "SHAPE_RULE", put(*NODES, DOUBLE, "params", to={"fn": "mod", "operands": [1, 0]}), strict=True
    ),
    Case(112, "padding of terabytes", "ACTIVATIONS_TOO_BIG", _pad(2**20, 2**20), strict=True),
    Case(
        113,
        "two inputs of one name",
        "VALUE_DUP",
        put("document", "inputs", to=[{"name": "x", "dtype": "f32", "shape": []}] * 2),
    ),
    Case(114, "parameters that are a reference", "PARAM_FORM", put(*NODES, ACT, "params", to={"$value": 1})),
    Case(115, "crc32 above 32 bits", "SCHEMA_TYPE", put("tensors", 0, "crc32", to=2**32)),
    Case(116, "an unknown form of storage", "QUANT_SCHEME", _form("stem/weight", {"scheme": "int4", "axis": 0})),
    Case(117, "a form of storage that is no text", "QUANT_SCHEME", _form("stem/weight", {"scheme": ["int8"], "axis": 0})),
    Case(118, "a form of storage that is no object", "SCHEMA_TYPE", _form("stem/weight", "int8")),
    Case(119, "int8 without an axis", "SCHEMA_MISSING", _form("stem/weight", {"scheme": "int8"})),
    Case(120, "float16 with an axis", "SCHEMA_UNKNOWN", _form("stem/bias", {"scheme": "float16", "axis": 0})),
    Case(121, "an axis that is no integer", "SCHEMA_TYPE", _form("stem/weight", {"scheme": "int8", "axis": 0.0})),
    Case(122, "an axis that the tensor lacks", "QUANT_AXIS", _form("stem/weight", {"scheme": "int8", "axis": 4})),
    Case(123, "a negative axis", "QUANT_AXIS", _form("stem/weight", {"scheme": "int8", "axis": -1})),
    Case(124, "a negative scale", "QUANT_SCALE", _scaled(-0.5)),
    Case(125, "an infinite scale", "QUANT_SCALE", _scaled(math.inf)),
    Case(126, "a scale that is no number", "QUANT_SCALE", _scaled(math.nan)),
    Case(
        127,
        "bytes hidden before the scales",
        "PADDING_NONZERO",
        _form("stem/weight", _INT8, bytes(108) + b"#" + bytes(19) + struct.pack("<4f", 1.0, 1.0, 1.0, 1.0)),
    ),
    Case(128, "a float32 tensor's bytes called float16", "TENSOR_NBYTES", _form("norm/bias", {"scheme": "float16"})),
)


def main(arguments: list[str]) -> None:
    """Write every case as `NNN.vnmodel` and `cases.json` with numbers, titles and codes into the folder named."""
    parser = argparse.ArgumentParser(prog="python -m amc_venus_export.hostile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="gets one file per case, and cases.json with their codes")
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for case in CASES:
        (folder / f"{case.number:03}.vnmodel").write_bytes(case.make())
    (folder / "000.vnmodel").write_bytes(sample().pack())
    index = [{"number": case.number, "title": case.title, "code": case.code, "strict": case.strict} for case in CASES]
    (folder / "cases.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(index)} malformed files, 000.vnmodel, which is sound, and cases.json in {folder}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
