"""What an emitter is given: one node of the document, and the verbs that write it in ONNX.

An emitter is a function of an `Op`. It adds ONNX nodes and returns the names of the results, in the order of the document's
node. A handler of another distribution names its own in its declaration, `emitters={"onnx": "my_ops._onnx:swish"}`::

    def swish(op):
        return op.add("Mul", op.x, op.add("Sigmoid", op.x))

Its module is imported when such a node is exported, and needs to import nothing of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from amc_onnx_export._graph import ELEMENT_TYPES, Dim, Graph
from amc_plugins.document import Node, Ref

__all__ = ["Emitter", "Name", "NotInOnnx", "Op", "Value"]


class NotInOnnx(Exception):  # noqa: N818 - an answer of an emitter: the node then goes out in a domain of its own
    """This variant of an op cannot be said in ONNX; the text says why."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | None, ...]
    """None: a size that is known at run time only."""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def floating(self) -> bool:
        return self.dtype.is_floating_point


Name = str | Value
Emitter = Callable[["Op"], "str | Sequence[str]"]


class Op:
    """One node to be written.

    `params` are the handler's typed parameters, `inputs` its tensors, `outputs` what is known of its results (their names are
    not used), `tensors` the torch tensors of its slots.
    """

    def __init__(
        self,
        graph: Graph,
        node: Node,
        params: Any,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        tensors: Mapping[str, Tensor],
        ints: Mapping[str, Dim],
    ) -> None:
        self.graph = graph
        self.node = node
        self.params = params
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.tensors = tensors
        self._ints = ints

    @property
    def x(self) -> Value:
        """The first input."""
        return self.inputs[0]

    @property
    def out(self) -> Value:
        """What is known of the first output."""
        return self.outputs[0]

    def refuse(self, why: str) -> NoReturn:
        """This variant cannot be written. Raises `NotInOnnx`."""
        raise NotInOnnx(why)

    # --- nodes ---

    def add(self, kind: str, *inputs: Name, **attributes: Any) -> str:
        """An ONNX node with one output; its name. Attributes that are None are left out."""
        return self.graph.add(self.node.name, kind, _names(inputs), 1, **attributes)[0]

    def add_many(self, kind: str, *inputs: Name, count: int, **attributes: Any) -> list[str]:
        """An ONNX node with `count` outputs."""
        return self.graph.add(self.node.name, kind, _names(inputs), count, **attributes)

    def slot(self, name: str, change: Callable[[Tensor], Tensor] | None = None, how: str = "") -> str:
        """The stored tensor of a slot, or what `change` (called `how`) makes of it. Layers that share it share it here."""
        key = (self.node.tensors[name], how)
        tensor = self.tensors[name] if change is None else change(self.tensors[name])
        return self.graph.store(tensor, key[0] + (f".{how}" if how else ""), key)

    def constant(self, value: Any, dtype: torch.dtype | None = None) -> str:
        """A stored tensor of a number, nested lists of numbers, or a tensor. Floats have the type of the first input."""
        if not isinstance(value, Tensor):
            floating = self.inputs and self.x.floating and _has_float(value)
            value = torch.tensor(value, dtype=dtype or (self.x.dtype if floating else None))
        return self.graph.store(value if dtype is None else value.to(dtype), "constant")

    def cast(self, value: Value, dtype: torch.dtype) -> Value:
        """The value in another type; itself where it has that one."""
        if value.dtype == dtype:
            return value
        return Value(self.add("Cast", value, to=ELEMENT_TYPES[dtype]), dtype, value.shape)

    # --- integers and shapes ---

    def dim(self, value: int | Ref) -> Dim:
        """An integer parameter: literal, or a tensor of shape (1,)."""
        return self._ints[value.name] if isinstance(value, Ref) else int(value)

    def known(self, value: int | Ref, what: str) -> int:
        """An integer parameter that ONNX wants literal."""
        dim = self.dim(value)
        if isinstance(dim, str):
            self.refuse(f"{what} is known at run time only")
        return dim

    def size(self, value: Value, axis: int) -> Dim:
        """The size of one axis."""
        size = value.shape[axis]
        if size is not None:
            return size
        axis %= value.rank
        return self.add("Shape", value, start=axis, end=axis + 1)

    def integer(self, fn: str, *operands: Dim) -> Dim:
        """`add`, `sub`, `mul`, `floordiv`, `mod` or `neg` of integers."""
        return self.graph.integer(self.node.name, fn, *operands)

    def shape(self, value: Value) -> str:
        """The shape as an int64 tensor: literal where it is known."""
        sizes = [one for one in value.shape if one is not None]
        return self.vector(list(sizes)) if len(sizes) == value.rank else self.add("Shape", value)

    def known_size(self, value: Value, axis: int, what: str) -> int:
        """The size of an axis that ONNX wants literal."""
        size = value.shape[axis]
        return self.refuse(f"{what} is known at run time only") if size is None else size

    def vector(self, dims: Sequence[Dim]) -> str:
        """Integers as an int64 tensor of shape (n,)."""
        literal = [one for one in dims if isinstance(one, int)]
        if len(literal) == len(dims):
            return self.graph.store(torch.tensor(literal, dtype=torch.int64), "shape")
        parts: list[str] = []
        run: list[int] = []
        for one in [*dims, ""]:
            if isinstance(one, int):
                run.append(one)
                continue
            if run:
                parts.append(self.graph.store(torch.tensor(run), "shape"))
                run = []
            if one:
                parts.append(one)
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def scalar(self, dim: Dim, dtype: torch.dtype = torch.int64) -> str:
        """An integer as a tensor without axes."""
        if isinstance(dim, int):
            return self.constant(dim, dtype)
        one = self.add("Reshape", dim, self.graph.store(torch.tensor([], dtype=torch.int64), "shape"))
        return one if dtype == torch.int64 else self.add("Cast", one, to=ELEMENT_TYPES[dtype])

    def reshape(self, x: Name, dims: Sequence[Dim], known: Sequence[int | None] = ()) -> str:
        """`x` in the shape `dims`. `known`: the same as far as it is known; with one size open at most it is literal."""
        if known and sum(one is None for one in known) <= 1 and 0 not in known:
            dims = [-1 if one is None else one for one in known]
        return self.add("Reshape", x, self.vector(dims), allowzero=1 if 0 in dims else None)

    def like(self, x: Name, template: Value) -> str:
        """`x` in the shape of `template`."""
        if sum(one is None for one in template.shape) <= 1 and 0 not in template.shape:
            return self.reshape(x, [], template.shape)
        return self.add("Reshape", x, self.shape(template), allowzero=1 if 0 in template.shape else None)

    def axis(self, axis: int, rank: int | None = None) -> int:
        """A negative axis counted from the start."""
        return axis % max(1, self.x.rank if rank is None else rank)

    def unsqueeze(self, x: Name, *axes: int) -> str:
        """New axes of size 1."""
        return self.add("Unsqueeze", x, self.vector(axes)) if axes else _names([x])[0]

    def squeeze(self, x: Name, *axes: int) -> str:
        """Without axes of size 1."""
        return self.add("Squeeze", x, self.vector(axes)) if axes else _names([x])[0]

    def slice(self, x: Name, axis: int, start: Dim, end: Dim, step: int = 1) -> str:
        """`start:end:step` of an axis."""
        return self.add("Slice", x, *(self.vector([one]) for one in (start, end, axis, step)))

    def reduce(self, kind: str, x: Name, axes: Sequence[int], keep: bool = True) -> str:
        """`Reduce<kind>` along axes."""
        return self.add(f"Reduce{kind}", x, self.vector(axes), keepdims=int(keep))


def _names(inputs: Sequence[Name]) -> list[str]:
    return [one.name if isinstance(one, Value) else one for one in inputs]


def _has_float(value: Any) -> bool:
    return any(map(_has_float, value)) if isinstance(value, list | tuple) else isinstance(value, float)
