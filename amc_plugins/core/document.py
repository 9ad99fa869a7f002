"""The graph document: the one description of a network, in memory, in `.json` and in `.vnmodel`. Free of torch.

A document is a straight-line program: `inputs`, then `nodes` in the order they run, then `outputs`. Values are
tensors or ints; a parameter that depends on an int value holds `{"$value": name}` in its place, also inside lists.
Tensors are named here and stored beside the document by whoever writes it. Canonical JSON (`to_json`) has a fixed key
order, no white space and shortest round-trip floats, so that equal documents are equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from amc_plugins.core.errors import DocumentError

__all__ = ["FORMAT", "Document", "InputSpec", "Node", "Ref", "TensorSpec", "Tree", "map_tree", "refs_in", "tree_leaves"]

FORMAT: Literal["amc-graph"] = "amc-graph"
VERSION = (1, 0)
_PLAIN = frozenset({bool, int, str, type(None)})
"""What is JSON data as it is. A float need not be finite; a number of another type may be a size that knows its node."""
_SCALARS = _PLAIN | {float}
"""What holds nothing else: most of what parameters are."""

NameStr = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
Dim = Annotated[int, Field(ge=0, lt=2**31)] | None
DType = Literal["f32", "f16", "bf16", "f64", "i8", "u8", "i16", "i32", "i64", "bool"]

Tree = Any
"""The structure of inputs or outputs: a value name (str), None, or a dict with one of the keys `tuple`, `list` (a
list of trees), `dict` (a mapping of trees) or `const` (a plain scalar that the network returns as it is).
"""


class Ref(BaseModel):
    """An int that is computed when the network runs: the value `name`. In JSON: `{"$value": name}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    name: NameStr = Field(alias="$value")

    def __init__(self, name: str | None = None, **data: Any) -> None:
        super().__init__(**(data if name is None else {"$value": name}))

    @property
    def json_value(self) -> dict[str, str]:
        return {"$value": self.name}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=False)


class InputSpec(_Model):
    """One input. A dimension that may change between runs (the batch) is None."""

    name: NameStr
    dtype: DType
    shape: list[Dim] = Field(max_length=8)


class TensorSpec(_Model):
    """What a stored tensor is; where its bytes are is the container's business."""

    name: NameStr
    dtype: DType
    shape: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(max_length=8)


class Node(_Model):
    """One operation. `params` and `tensors` are those of its layer; nodes of one `layer` share it.

    `source` is the line of the user's network (`file.py:12`); `origin` the layer that this one was made from by a compressor.
    """

    name: NameStr
    layer: NameStr
    op: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$", max_length=128)]
    op_version: Annotated[int, Field(ge=1)] = 1
    inputs: list[NameStr] = Field(default_factory=list)
    outputs: list[NameStr] = Field(min_length=1)
    params: dict[str, Any] = Field(default_factory=dict)
    tensors: dict[str, NameStr] = Field(default_factory=dict)
    source: str | None = None
    origin: str | None = None

    @property
    def symbols(self) -> list[str]:
        """Names of the int values that the parameters depend on."""
        return list(refs_in(self.params))

    @field_serializer("params")
    def _plain(self, params: dict[str, Any]) -> dict[str, Any]:
        return {key: value if type(value) in _PLAIN else to_plain(value) for key, value in params.items()}


class Document(_Model):
    """See the module's docstring. Constructing one validates it: names unique, every value made before it is used."""

    format: Literal["amc-graph"] = FORMAT
    version: tuple[int, int] = VERSION
    producer: str = ""
    inputs: list[InputSpec] = Field(min_length=1)
    signature: list[Tree]
    """The structure of the positional arguments, with input names as leaves."""
    nodes: list[Node]
    outputs: Tree
    tensors: list[TensorSpec] = Field(default_factory=list)
    metadata: dict[str, str] = Field(default_factory=dict)

    def copied(self) -> Document:
        """A deep copy. Several times as fast as pydantic's: a search takes one for every candidate."""
        nodes = [
            node.model_copy(
                update={
                    "inputs": [*node.inputs],
                    "outputs": [*node.outputs],
                    "params": _own(node.params),
                    "tensors": {**node.tensors},
                }
            )
            for node in self.nodes
        ]
        return self.model_copy(
            update={
                "inputs": [spec.model_copy(deep=True) for spec in self.inputs],
                "signature": _own(self.signature),
                "nodes": nodes,
                "outputs": _own(self.outputs),
                "tensors": [spec.model_copy(deep=True) for spec in self.tensors],
                "metadata": {**self.metadata},
            }
        )

    @model_validator(mode="after")
    def _check(self) -> Document:
        check_topology(self)
        return self

    @field_serializer("signature", "outputs")
    def _plain_trees(self, tree: Tree) -> Tree:
        return to_plain(tree)  # pydantic would write null for a constant NaN

    def to_json(self, *, indent: int | None = None) -> str:
        """Canonical JSON, or an indented form of the same document."""
        separators = (",", ":") if indent is None else None
        plain = self.model_dump(mode="json", exclude_none=False)
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)

    @classmethod
    def from_plain(cls, plain: object) -> Document:
        """Validate parsed JSON.

        Raises:
            DocumentError: it is not a valid document; the message has every problem with its path.
        """
        try:
            document = cls.model_validate(plain)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in one['loc']) or 'document'}: {one['msg']}" for one in error.errors()[:20]
            )
            raise DocumentError(f"not a valid graph document: {problems}") from error
        for node in document.nodes:
            node.params = {key: value if type(value) in _SCALARS else from_plain(value) for key, value in node.params.items()}
        return document

    @classmethod
    def from_json(cls, text: str | bytes) -> Document:
        """Parse and validate JSON. Raises `DocumentError` as `from_plain` does."""
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"not JSON: {error}") from error
        return cls.from_plain(plain)


def check_topology(document: Document) -> None:
    """Names are unique, every value is made once and before it is used, the outputs exist.

    Raises:
        ValueError: names the first offender (pydantic turns it into a validation error).
    """
    made: set[str] = set()
    for spec in document.inputs:
        _make(spec.name, made, "input")
    declared = [name for tree in document.signature for name in tree_leaves(tree)]
    if sorted(declared) != sorted(made):
        raise ValueError(f"signature names {declared}, inputs are {sorted(made)}")
    nodes: set[str] = set()
    ops: dict[str, str] = {}
    tensors = {spec.name for spec in document.tensors}
    for node in document.nodes:
        if node.name in nodes:
            raise ValueError(f"two nodes are named `{node.name}`")
        nodes.add(node.name)
        if ops.setdefault(node.layer, node.op) != node.op:
            raise ValueError(f"layer `{node.layer}` is both `{ops[node.layer]}` and `{node.op}`")
        for name in (*node.inputs, *node.symbols):
            if name not in made:
                raise ValueError(f"node `{node.name}` uses `{name}` before anything makes it")
        for name in node.tensors.values():
            if tensors and name not in tensors:
                raise ValueError(f"node `{node.name}` names the tensor `{name}`, which the table does not have")
        for name in node.outputs:
            _make(name, made, f"node `{node.name}`")
    leaves = tree_leaves(document.outputs)
    if not leaves:
        raise ValueError("the network has no outputs")
    for name in leaves:
        if name not in made:
            raise ValueError(f"nothing makes the output `{name}`")


def _make(name: str, made: set[str], what: str) -> None:
    if name in made:
        raise ValueError(f"{what} makes `{name}`, which exists already")
    made.add(name)


def tree_leaves(tree: Tree) -> list[str]:
    """The value names in a structure, in order. Raises ValueError on anything that is not a structure."""
    if tree is None:
        return []
    if isinstance(tree, str):
        return [tree]
    if isinstance(tree, dict) and len(tree) == 1:
        ((kind, body),) = tree.items()
        if kind in ("tuple", "list") and isinstance(body, list):
            return [name for item in body for name in tree_leaves(item)]
        if kind == "dict" and isinstance(body, dict):
            return [name for item in body.values() for name in tree_leaves(item)]
        if kind == "const" and (body is None or isinstance(body, str | int | float | bool) or _is_nonfinite(body)):
            return []
    raise ValueError(f"not a structure of values: {tree!r}")


def _is_nonfinite(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"$f"} and value["$f"] in ("inf", "-inf", "nan")


def _own(value: Any) -> Any:
    """A copy of lists, tuples and dicts at any depth; what they hold does not change."""
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    return type(value)(map(_own, value)) if type(value) in (list, tuple) else value


def map_tree(tree: Tree, leaf: Any) -> Any:
    """The Python structure that `tree` describes, with `leaf(name)` for each value."""
    if tree is None:
        return None
    if isinstance(tree, str):
        return leaf(tree)
    ((kind, body),) = tree.items()
    if kind == "const":
        return from_plain(body)
    if kind == "dict":
        return {key: map_tree(item, leaf) for key, item in body.items()}
    items = [map_tree(item, leaf) for item in body]
    return tuple(items) if kind == "tuple" else items


def refs_in(value: object) -> Iterator[str]:
    """Names of the values that `value` refers to, at any depth of lists and dicts. Raises `DocumentError` for no name."""
    found: list[str] = []
    _collect_refs(value, found)
    return iter(found)


def _collect_refs(value: object, found: list[str]) -> None:
    items: Iterable[object]
    if isinstance(value, Ref):
        found.append(value.name)
        return
    if isinstance(value, dict):
        if len(value) == 1 and "$value" in value:
            if not isinstance(value["$value"], str):
                raise DocumentError(f"not the name of a value: {value!r}")
            found.append(value["$value"])
            return
        items = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        return
    for item in items:
        if type(item) not in _SCALARS:
            _collect_refs(item, found)


def to_plain(value: object) -> Any:
    """JSON data: `Ref` becomes `{"$value": name}`, a non-finite float `{"$f": text}`, a tuple a list."""
    if isinstance(value, Ref):
        return value.json_value
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$f": str(float(value))}
    if isinstance(value, list | tuple):
        return [item if type(item) in _PLAIN else to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    raise DocumentError(f"a parameter holds {value!r} ({type(value).__name__}), which a document cannot hold")


def from_plain(value: object) -> Any:
    """The inverse of `to_plain` (tuples come back as lists)."""
    if isinstance(value, dict):
        if set(value) == {"$value"}:
            return Ref(value["$value"])
        if set(value) == {"$f"}:
            if value["$f"] not in ("inf", "-inf", "nan"):
                raise DocumentError(f"not a float: {value!r}")
            return float(value["$f"])
        return {key: item if type(item) in _SCALARS else from_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [item if type(item) in _SCALARS else from_plain(item) for item in value]
    return value
