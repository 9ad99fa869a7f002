"""Files put together from plain data, right or wrong: what tests of a reader are made of. Needs neither torch nor handlers."""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from amc_venus_export._header import ALIGNMENT, HEADER_BYTES, Header, round_up

__all__ = ["Draft", "mutate", "sample", "stored_sample"]


@dataclass
class Draft:
    """A file in pieces. `root` is the graph's JSON, whose placements `pack` fills in from `blobs`."""

    root: dict[str, Any]
    blobs: dict[str, bytes]
    header: dict[str, int] = field(default_factory=dict)
    """Header fields to lie about; the header's checksum is right all the same."""
    forms: dict[str, Any] = field(default_factory=dict)
    """The field `quant` of placements, by tensor."""

    @property
    def document(self) -> dict[str, Any]:
        """The graph document inside the root."""
        return self.root["document"]  # type: ignore[no-any-return]

    def place(self) -> bytes:
        """Lay the blobs out as a writer does, write their placements into the root and return the data."""
        data = b""
        self.root["tensors"] = []
        for name, blob in self.blobs.items():
            data = data.ljust(round_up(len(data), ALIGNMENT), b"\0")
            place = {"name": name, "offset": len(data), "nbytes": len(blob), "crc32": zlib.crc32(blob)}
            self.root["tensors"].append({**place, "quant": self.forms[name]} if name in self.forms else place)
            data += blob
        return data

    def graph(self) -> bytes:
        """The root as canonical JSON. Surrogates pass, so that a test can have them as escapes."""
        return json.dumps(self.root, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")

    def pack(self, graph: bytes | None = None, data: bytes | None = None) -> bytes:
        """The file, with every length and checksum right but for those in `header`."""
        placed = self.place() if data is None else data
        text = self.graph() if graph is None else graph
        start = round_up(HEADER_BYTES + len(text), ALIGNMENT)
        header = Header(len(text), start, len(placed), start + len(placed), zlib.crc32(text))
        front = replace(header, **self.header).pack() + text
        return front.ljust(start, b"\0") + placed


def sample() -> Draft:
    """A small sound file: shared layer, symbolic size, tensors of three dtypes, an output that is a tuple."""
    numbers = random.Random(7)

    def floats(count: int) -> bytes:
        return struct.pack(f"<{count}f", *(numbers.uniform(-0.5, 0.5) for _ in range(count)))

    tensors: list[tuple[str, str, list[int], bytes]] = [
        ("stem/weight", "f32", [4, 3, 3, 3], floats(108)),
        ("stem/bias", "f32", [4], floats(4)),
        ("norm/weight", "f32", [4], floats(4)),
        ("norm/bias", "f32", [4], floats(4)),
        ("norm/running_mean", "f32", [4], floats(4)),
        ("norm/running_var", "f32", [4], struct.pack("<4f", 1.0, 0.5, 2.0, 0.25)),
        ("norm/num_batches_tracked", "i64", [], struct.pack("<q", 12)),
        ("mask/value", "bool", [4], b"\1\0\0\1"),
    ]
    conv = {
        "in_channels": 3, "out_channels": 4, "kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1],
        "groups": 1, "bias": True, "padding_mode": "zeros",
    }  # fmt: skip
    norm = {"num_features": 4, "eps": 1e-05, "momentum": 0.1, "affine": True, "track_running_stats": True}
    resize = {
        "size": [{"$value": "double"}, {"$value": "double"}], "scale_factor": None, "mode": "nearest", "align_corners": None,
        "recompute_scale_factor": None, "antialias": False,
    }  # fmt: skip
    slots: dict[str, dict[str, str]] = {name.partition("/")[0]: {} for name, *_ in tensors}
    for name, *_ in tensors:
        slots[name.partition("/")[0]][name.partition("/")[2]] = name
    nodes = [
        _node("stem", "vn.conv2d", ["x"], conv, slots["stem"]),
        _node("norm", "vn.batchnorm2d", ["stem"], norm, slots["norm"]),
        _node("act", "vn.relu", ["norm"]),
        _node("act@1", "vn.relu", ["act"], layer="act"),
        _node("sum", "vn.add", ["act", "act@1"]),
        _node("height", "vn.size", ["x"], {"dim": 2}),
        _node("double", "vn.int", [], {"fn": "mul", "operands": [{"$value": "height"}, 2]}),
        _node("up", "vn.interpolate", ["sum"], resize),
        _node("mask", "vn.constant", [], {"trainable": False}, slots["mask"]),
    ]
    document = {
        "format": "amc-graph",
        "version": [1, 0],
        "producer": "sample",
        "inputs": [{"name": "x", "dtype": "f32", "shape": [None, 3, 8, 8]}],
        "signature": ["x"],
        "nodes": nodes,
        "outputs": {"tuple": ["up", "mask"]},
        "tensors": [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape, _ in tensors],
        "metadata": {"title": "a sample", "x-note": "prüfen"},
    }
    root = {"model_id": 7, "model_base_size_hw": [8, 8], "document": document, "tensors": []}
    draft = Draft(root, {name: blob for name, _, _, blob in tensors})
    draft.place()
    return draft


def stored_sample() -> Draft:
    """The sample with its convolution's weight as int8 and its bias as float16."""
    numbers = random.Random(11)
    draft = sample()
    values = bytes(numbers.randrange(256) for _ in range(108))
    scales = struct.pack("<4f", *(numbers.uniform(0.001, 0.01) for _ in range(3)), 0.0)
    draft.blobs["stem/weight"] = values.ljust(128, b"\0") + scales
    draft.blobs["stem/bias"] = struct.pack("<4e", 0.25, -0.5, 1e-7, 65504.0)
    draft.forms = {"stem/weight": {"scheme": "int8", "axis": 0}, "stem/bias": {"scheme": "float16"}}
    draft.place()
    return draft


def _node(
    name: str, op: str, inputs: list[str], params: Any = None, tensors: Any = None, *, layer: str | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "layer": layer or name,
        "op": op,
        "op_version": 1,
        "inputs": inputs,
        "outputs": [name],
        "params": params or {},
        "tensors": tensors or {},
        "source": "net.py:1",
        "origin": None,
    }


_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63 - 1, -(2**63), 2**64, 0.5, -0.0, 1e308),
    *("", "x", "stem", "stem/weight", "vn.relu", "vn.nothing", "f16", "inf", "../x", "\0", "n" * 600),
    *([], [[]], [1, 2], [None], ["x"], {}, {"a": 1}),
    *({"$value": "x"}, {"$value": "height"}, {"$value": []}, {"$f": "nan"}, {"$f": "1"}, {"$x": 1}),
    *({"scheme": "int8", "axis": 0}, {"scheme": "int8", "axis": 2**31}, {"scheme": "float16"}, {"scheme": "int4"}),
    *({"const": 1}, {"const": {"$f": "inf"}}, {"tuple": ["x"]}, {"dict": {"a": "x"}}),
)


def mutate(draft: Draft, numbers: random.Random) -> bytes:
    """One to four changes somewhere in a draft, most of them structural, and the file they give. The draft is left alone."""
    changed = copy.deepcopy(draft)
    data: bytes | None = None
    if numbers.random() < 0.7:  # the placements stay those of the unchanged file and are themselves changed now and then
        data = changed.place()
    for _ in range(numbers.randint(1, 4)):
        kind = numbers.random()
        if kind < 0.45:
            _exchange(changed.root, numbers)
        elif kind < 0.8:
            _change(changed.root, numbers)
        elif kind < 0.9:
            name = numbers.choice(["graph_bytes", "data_offset", "data_bytes", "file_bytes", "graph_crc", "minor", "flags"])
            width = {"graph_crc": 32, "minor": 16, "flags": 32}.get(name, 64)
            changed.header[name] = numbers.choice([0, 1, 64, 4096, 2 ** (width - 1), 2**width - 1, numbers.getrandbits(width)])
        elif changed.blobs:
            name = numbers.choice(list(changed.blobs))
            changed.blobs[name] = numbers.choice(
                [b"", changed.blobs[name] + b"\0" * 3, numbers.randbytes(len(changed.blobs[name]))]
            )
    graph = changed.graph() if data is not None or "tensors" in changed.root else b"{}"
    if data is None and isinstance(changed.root.get("tensors"), list):
        data = changed.place()
        graph = changed.graph()
    if numbers.random() < 0.1 and graph:
        at = numbers.randrange(len(graph))
        graph = graph[:at] + numbers.randbytes(1) + graph[at + numbers.randint(0, 2) :]
    file = changed.pack(graph, data or b"")
    if numbers.random() < 0.05:
        file = file[: numbers.randrange(len(file))] + numbers.randbytes(numbers.randint(0, 9))
    return file


def _change(root: dict[str, Any], numbers: random.Random) -> None:
    """Replace, remove, add, repeat, swap or transplant something at a random place of the tree."""
    holders = _containers(root)
    holder = numbers.choice(holders)
    keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    action = numbers.randrange(6)
    if not keys or action == 0:
        value = copy.deepcopy(numbers.choice(_VALUES))
        if isinstance(holder, dict):
            holder[numbers.choice(["extra", "name", "shape", "$value", "stride", "weight", "quant", "axis"])] = value
        else:
            holder.insert(numbers.randint(0, len(holder)), value)
        return
    key = numbers.choice(keys)
    if action == 1:
        del holder[key]
    elif action == 2:
        holder[key] = copy.deepcopy(holder[numbers.choice(keys)])
    elif action == 3:
        holder[key] = copy.deepcopy(numbers.choice(holders))
    elif action == 4 and isinstance(holder[key], int) and not isinstance(holder[key], bool):
        holder[key] += numbers.choice([-64, -1, 1, 64, 2**20, 2**40])
    else:
        holder[key] = copy.deepcopy(numbers.choice(_VALUES))


def _exchange(root: dict[str, Any], numbers: random.Random) -> None:
    """Put another leaf of the same type in a leaf's place: names, sizes and offsets that exist, where they do not belong."""
    leaves: dict[type, list[tuple[Any, Any]]] = {}
    for holder in _containers(root):
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            leaves.setdefault(type(value), []).append((holder, key))
    for kind in (list, dict):
        leaves.pop(kind, None)
    if leaves:
        same = numbers.choice(list(leaves.values()))
        (holder, key), (other, there) = numbers.choice(same), numbers.choice(same)
        holder[key] = other[there]


def _containers(root: Any) -> list[Any]:
    found: list[Any] = []
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            found.append(one)
            waiting += one.values() if isinstance(one, dict) else one
    return found
