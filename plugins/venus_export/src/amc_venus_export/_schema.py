"""The graph's JSON field by field: types, names, bounds. Works on parsed JSON, so that a code always means one rule.

Every key that version 1.0 writes must be there. A file of a higher minor version may have more, which are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from amc_plugins.document import FORMAT
from amc_venus_export._errors import VnModelError
from amc_venus_export._storage import SCHEMES, Storage

if TYPE_CHECKING:
    from amc_venus_export._limits import Limits

__all__ = ["ITEMSIZE", "Placement", "Root", "check_schema", "nbytes_of"]

ITEMSIZE = {"f32": 4, "f16": 2, "bf16": 2, "f64": 8, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8, "bool": 1}
DOCUMENT_MAJOR = 1
MAX_RANK = 8
MAX_NAME = 512
_BAD_IN_NAME = re.compile(r"[\x00-\x1f\x7f]")
_OP = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
_SPEC = ("name", "dtype", "shape")
_PLACEMENT = ("name", "offset", "nbytes", "crc32")

Plain = dict[str, Any]


class Placement(NamedTuple):
    """Where a tensor's bytes are: `offset` counts from the start of the data."""

    name: str
    offset: int
    nbytes: int
    crc32: int
    storage: Storage | None = None
    """How the bytes hold the tensor; None: in its own dtype."""


@dataclass(frozen=True)
class Root:
    """The checked graph part of a file. `document` is plain JSON still."""

    model_id: int
    model_base_size_hw: tuple[int, int] | None
    document: Plain
    placements: list[Placement]


def check_schema(parsed: Plain, limits: Limits, *, newer: bool = False) -> Root:
    """Check the root object and the document in it. `newer` says that the file's minor version is above this reader's.

    Raises:
        VnModelError: see the codes of schema, and of the tensor table where a shape or a dtype is concerned.
    """
    root = _fields(parsed, "graph", ("model_id", "model_base_size_hw", "document", "tensors"), newer)
    model_id = root["model_id"]
    if type(model_id) is not int or not 0 <= model_id < 2**32:
        raise VnModelError("MODEL_ID", f"model_id is {_show(model_id)}, expected an integer from 0 to 2^32-1", "model_id")
    base = _base_size(root["model_base_size_hw"])
    document = _document(root["document"], limits, newer)
    placements = [
        _sound_placement(one) or _placement(one, f"tensors[{i}]", newer)
        for i, one in enumerate(_list(root["tensors"], "tensors"))
    ]
    return Root(model_id, base, document, placements)


def nbytes_of(shape: list[int], dtype: str, where: str) -> int:
    """Bytes of a tensor. Raises `VnModelError` SHAPE_OVERFLOW, also when only the strides of an empty tensor overflow."""
    itemsize = ITEMSIZE[dtype]
    if math.prod(dim or 1 for dim in shape) * itemsize >= 2**63:
        raise VnModelError("SHAPE_OVERFLOW", f"a tensor of shape {shape} does not fit 63 bits", where)
    return math.prod(shape) * itemsize


def _document(value: object, limits: Limits, newer: bool) -> Plain:
    here = _object(value, "document")
    version = here.get("version")
    if here.get("format") != FORMAT or type(version) is not list or [type(part) for part in version] != [int, int]:
        found = f"format {_show(here.get('format'))}, version {_show(version)}"
        raise VnModelError("FORMAT", f"{found}; expected {FORMAT!r}", "document")
    if version[0] != DOCUMENT_MAJOR or version[1] < 0:
        raise VnModelError("FORMAT", f"graph document {version}, this reader knows {DOCUMENT_MAJOR}.x", "document.version")
    newer = newer or version[1] > 0
    keys = ("format", "version", "producer", "inputs", "signature", "nodes", "outputs", "tensors", "metadata")
    here = _fields(value, "document", keys, newer)
    _text(here["producer"], "document.producer")
    _metadata(here["metadata"], limits)
    inputs = _list(here["inputs"], "document.inputs")
    here["inputs"] = [_value_spec(one, f"document.inputs[{i}]", newer, is_input=True) for i, one in enumerate(inputs)]
    for i, tree in enumerate(_list(here["signature"], "document.signature")):
        _tree(tree, f"document.signature[{i}]")
    nodes = _list(here["nodes"], "document.nodes")
    if len(nodes) > limits.nodes:
        raise VnModelError("TOO_MANY_NODES", f"{len(nodes)} nodes, at most {limits.nodes} are read", "document.nodes")
    here["nodes"] = [_node(one, f"document.nodes[{i}]", newer) for i, one in enumerate(nodes)]
    _tree(here["outputs"], "document.outputs")
    tensors = _list(here["tensors"], "document.tensors")
    if len(tensors) > limits.tensors:
        raise VnModelError("TOO_MANY_TENSORS", f"{len(tensors)} tensors, at most {limits.tensors} are read", "document.tensors")
    here["tensors"] = [
        one if _sound_spec(one) else _value_spec(one, f"document.tensors[{i}]", newer, is_input=False)
        for i, one in enumerate(tensors)
    ]
    return here


def _node(value: object, where: str, newer: bool) -> Plain:
    keys = ("name", "layer", "op", "op_version", "inputs", "outputs", "params", "tensors", "source", "origin")
    node = _fields(value, where, keys, newer)
    for key in ("name", "layer"):
        if not _plain_name(node[key]):
            _name(node[key], f"{where}.{key}")
    op = _text(node["op"], f"{where}.op")
    if len(op) > 128 or not _is_op(op):  # long texts do not get into the cache
        raise VnModelError("OP_ID", f"{_show(op)} is no op id", f"{where}.op")
    if type(node["op_version"]) is not int:
        raise VnModelError("SCHEMA_TYPE", f"expected an integer, found {_show(node['op_version'])}", f"{where}.op_version")
    if node["op_version"] < 1:
        raise VnModelError("OP_VERSION", f"version {node['op_version']} of `{op}`", f"{where}.op_version")
    for side in ("inputs", "outputs"):
        names = _list(node[side], f"{where}.{side}")
        if not all(map(_plain_name, names)):
            for i, name in enumerate(names):
                _name(name, f"{where}.{side}[{i}]")
    for key, item in _object(node["params"], f"{where}.params").items():
        if key.startswith("$"):  # the parameters as a whole are no reference
            raise VnModelError("PARAM_FORM", f"{_show(key)} is no name of a parameter", f"{where}.params")
        if isinstance(item, list | dict):
            _param(item, f"{where}.params.{key[:80]}")
    for slot, name in _object(node["tensors"], f"{where}.tensors").items():
        if not _plain_name(name):
            _name(name, f"{where}.tensors.{slot[:80]}")
    for key in ("source", "origin"):
        if node[key] is not None:
            _text(node[key], f"{where}.{key}")
    return node


def _param(value: object, where: str) -> None:
    if isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, list | dict):
                _param(item, f"{where}[{i}]")
    elif isinstance(value, dict):
        if value.keys() == {"$value"}:
            _name(value["$value"], where)
        elif value.keys() == {"$f"}:
            if value["$f"] not in ("inf", "-inf", "nan"):
                raise VnModelError("PARAM_FORM", f"{_show(value)} is no float", where)
        else:
            for key, item in value.items():
                if key.startswith("$"):
                    raise VnModelError("PARAM_FORM", f"{_show(key)} is no form of a parameter", where)
                _param(item, f"{where}.{key[:80]}")


def _tree(value: object, where: str) -> None:
    if value is None:
        return
    if isinstance(value, str):
        _name(value, where)
        return
    if isinstance(value, dict) and len(value) == 1:
        ((kind, body),) = value.items()
        if kind in ("tuple", "list") and isinstance(body, list):
            for i, item in enumerate(body):
                _tree(item, f"{where}.{kind}[{i}]")
            return
        if kind == "dict" and isinstance(body, dict):
            for key, item in body.items():
                _tree(item, f"{where}.dict.{key[:80]}")
            return
        if kind == "const" and not isinstance(body, list):
            if isinstance(body, dict) and body.keys() != {"$f"}:
                raise VnModelError("TREE", f"{_show(body)} is no constant", where)
            _param(body, where)
            return
    raise VnModelError("TREE", f"{_show(value)} is no structure of values", where)


def _sound_spec(value: object) -> bool:
    """Whether this is sound beyond doubt, as nearly every entry is; `_value_spec` has the rules and says what is broken."""
    if type(value) is not dict or tuple(value) != _SPEC:
        return False
    name, dtype, shape = value.values()
    sound = _plain_name(name) and type(dtype) is str and dtype in ITEMSIZE and type(shape) is list and len(shape) <= MAX_RANK
    return sound and all(type(dim) is int and 0 <= dim < 2**31 for dim in shape)


def _value_spec(value: object, where: str, newer: bool, *, is_input: bool) -> Plain:
    spec = _fields(value, where, _SPEC, newer)
    _name(spec["name"], f"{where}.name")
    if _text(spec["dtype"], f"{where}.dtype") not in ITEMSIZE:
        raise VnModelError("DTYPE_UNKNOWN", f"{_show(spec['dtype'])}; expected one of {', '.join(ITEMSIZE)}", f"{where}.dtype")
    shape = _list(spec["shape"], f"{where}.shape")
    if len(shape) > MAX_RANK:
        raise VnModelError("RANK", f"{len(shape)} dimensions, at most {MAX_RANK}", f"{where}.shape")
    for i, dim in enumerate(shape):
        at = f"{where}.shape[{i}]"
        if dim is None and is_input:
            continue
        if type(dim) is not int:
            raise VnModelError("DIM_TYPE", f"the dimension {_show(dim)}", at)
        if dim < 0:
            raise VnModelError("DIM_NEGATIVE", f"the dimension {dim}", at)
        if dim >= 2**31:
            raise VnModelError("DIM_TOO_BIG", f"the dimension {dim}", at)
        if dim == 0 and is_input:
            raise VnModelError("DIM_ZERO", "an input without entries", at)
    return spec


def _sound_placement(value: object) -> Placement | None:
    """As `_sound_spec`, of a placement in the tensor's own dtype."""
    if type(value) is not dict or tuple(value) != _PLACEMENT:
        return None
    name, offset, nbytes, crc = value.values()
    if type(offset) is not int or type(nbytes) is not int or type(crc) is not int:
        return None
    if not _plain_name(name) or offset < 0 or nbytes < 0 or not 0 <= crc < 2**32:
        return None
    return Placement(name, offset, nbytes, crc)


def _placement(value: object, where: str, newer: bool) -> Placement:
    one = _fields(value, where, _PLACEMENT, newer, optional=("quant",))
    _name(one["name"], f"{where}.name")
    for key in ("offset", "nbytes", "crc32"):
        if type(one[key]) is not int:
            raise VnModelError("SCHEMA_TYPE", f"expected an integer, found {_show(one[key])}", f"{where}.{key}")
    if one["offset"] < 0 or one["nbytes"] < 0:
        raise VnModelError("TENSOR_RANGE", f"offset {one['offset']}, {one['nbytes']} bytes", where)
    if not 0 <= one["crc32"] < 2**32:
        raise VnModelError("SCHEMA_TYPE", f"{one['crc32']} is no crc32", f"{where}.crc32")
    storage = _storage(one["quant"], f"{where}.quant", newer) if "quant" in one else None
    return Placement(one["name"], one["offset"], one["nbytes"], one["crc32"], storage)


def _storage(value: object, where: str, newer: bool) -> Storage:
    scheme = _object(value, where).get("scheme")
    if scheme is not None and (type(scheme) is not str or scheme not in SCHEMES):
        raise VnModelError("QUANT_SCHEME", f"{_show(scheme)}; expected one of {', '.join(SCHEMES)}", where)
    one = _fields(value, where, ("scheme", "axis") if scheme == "int8" else ("scheme",), newer)
    if scheme is None:
        raise VnModelError("QUANT_SCHEME", f"null; expected one of {', '.join(SCHEMES)}", where)
    axis = one.get("axis", 0)
    if type(axis) is not int:
        raise VnModelError("SCHEMA_TYPE", f"expected an integer, found {_show(axis)}", f"{where}.axis")
    return Storage(one["scheme"], axis)


def _base_size(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if type(value) is not list or len(value) != 2 or not all(type(size) is int and 1 <= size < 2**31 for size in value):
        raise VnModelError("BASE_SIZE", f"{_show(value)}; expected null or [height, width]", "model_base_size_hw")
    return value[0], value[1]


def _metadata(value: object, limits: Limits) -> None:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise VnModelError("METADATA", "expected texts by key", "document.metadata")
    size = sum(len(key.encode()) + len(text.encode()) for key, text in value.items())
    if size > limits.metadata_bytes:
        raise VnModelError("METADATA_TOO_BIG", f"{size} bytes, at most {limits.metadata_bytes} are read", "document.metadata")


@lru_cache(maxsize=1024)
def _is_op(text: str) -> bool:
    return _OP.fullmatch(text) is not None


def _plain_name(value: object) -> bool:
    """Whether a name is sound beyond doubt, as nearly all are; `_name` has the rule and says where it is broken."""
    return type(value) is str and 0 < len(value) <= MAX_NAME and value.isprintable()


def _name(value: object, where: str) -> str:
    text: str = _text(value, where)
    if not text:
        raise VnModelError("NAME_EMPTY", "an empty name", where)
    if len(text) > MAX_NAME:
        raise VnModelError("NAME_TOO_LONG", f"a name of {len(text)} characters, at most {MAX_NAME}", where)
    if _BAD_IN_NAME.search(text):
        raise VnModelError("NAME_BAD_CHAR", f"a control character in the name {_show(text)}", where)
    return text


def _fields(value: object, where: str, keys: tuple[str, ...], newer: bool, *, optional: tuple[str, ...] = ()) -> Plain:
    given: Plain = _object(value, where)
    if tuple(given) == keys:  # as the writer has them
        return given
    for key in keys:
        if key not in given:
            raise VnModelError("SCHEMA_MISSING", f"`{key}` is missing", where)
    if not newer and (unknown := [key for key in given if key not in keys and key not in optional]):
        raise VnModelError("SCHEMA_UNKNOWN", f"{_show(unknown[0])} is no field of it", where)
    return {key: given[key] for key in (*keys, *optional) if key in given}


def _typed(kind: type, what: str) -> Callable[[object, str], Any]:
    def check(value: object, where: str) -> Any:
        if type(value) is not kind:
            raise VnModelError("SCHEMA_TYPE", f"expected {what}, found {_show(value)}", where)
        return value

    return check


_object = _typed(dict, "an object")
_list = _typed(list, "a list")
_text = _typed(str, "a text")


def _show(value: object) -> str:
    """A value for a message, short whatever it is."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'object'} of {len(value)}"
    return repr(value if not isinstance(value, str) else value[:60])[:100]
