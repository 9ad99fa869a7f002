"""The ONNX graph under construction: unique names, nodes, stored tensors, and integers that are literal where they can be."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import NodeProto, TensorProto, helper
from torch import Tensor

__all__ = ["ELEMENT_TYPES", "Dim", "Graph", "Mark"]

Dim = int | str
"""An integer: literal, or the name of an int64 tensor of shape (1,)."""

Mark = tuple[int, int]

ELEMENT_TYPES: dict[torch.dtype, int] = {
    torch.float32: TensorProto.FLOAT,
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
    torch.float64: TensorProto.DOUBLE,
    torch.int8: TensorProto.INT8,
    torch.uint8: TensorProto.UINT8,
    torch.int16: TensorProto.INT16,
    torch.int32: TensorProto.INT32,
    torch.int64: TensorProto.INT64,
    torch.bool: TensorProto.BOOL,
}

_LITERAL: dict[str, Callable[..., int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
}
_NODES = {"add": "Add", "sub": "Sub", "mul": "Mul", "mod": "Mod", "neg": "Neg"}
_SMALL = 4096


class Graph:
    """Nodes and stored tensors. Values and stored tensors share one set of names, as ONNX wants it."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.stored: dict[str, Tensor] = {}
        self._taken: set[str] = {""}
        self._places: dict[Any, str] = {}

    def unique(self, wanted: str) -> str:
        """`wanted`, or it with a number behind it if somebody has that name."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def mark(self) -> Mark:
        """A place to go back to with `back`."""
        return len(self.nodes), len(self._places)

    def back(self, mark: Mark) -> None:
        """Forget the nodes since `mark`, and what was stored for them."""
        del self.nodes[mark[0] :]
        for key in list(self._places)[mark[1] :]:
            self.stored.pop(self._places.pop(key), None)

    def add(
        self, scope: str, kind: str, inputs: Sequence[str], count: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """One node; the names of its `count` outputs. `scope` is the node of the document that it belongs to."""
        label = kind.lower()
        outputs = [self.unique(f"{scope}/{label}" if count == 1 else f"{scope}/{label}.{place}") for place in range(count)]
        given = {name: value for name, value in attributes.items() if value is not None}
        node = helper.make_node(kind, list(inputs), outputs, self.unique(f"{scope}:{label}"), domain=domain, **given)
        self.nodes.append(node)
        return outputs

    def store(self, tensor: Tensor, wanted: str, key: Any = None) -> str:
        """The name under which `tensor` is stored, once for each `key`; equal small tensors without a key are stored once."""
        tensor = tensor.detach()
        if key is None and tensor.numel() <= _SMALL:
            flat = tensor.cpu().contiguous().reshape(-1)
            key = (tensor.dtype, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes())
        if key is not None and key in self._places:
            return self._places[key]
        name = self.unique(wanted)
        self._places[name if key is None else key] = name
        self.stored[name] = tensor
        return name

    def tensor_of(self, dim: Dim) -> str:
        """An integer as an int64 tensor of shape (1,)."""
        return dim if isinstance(dim, str) else self.store(torch.tensor([dim]), "int")

    def integer(self, scope: str, fn: str, *operands: Dim) -> Dim:
        """A step of integer arithmetic as Python does it: `floordiv` rounds down, `mod` has the sign of its second operand."""
        literal = [one for one in operands if isinstance(one, int)]
        if len(literal) == len(operands):
            return _LITERAL[fn](*literal)
        names = [self.tensor_of(one) for one in operands]
        if fn != "floordiv":
            return self.add(scope, _NODES[fn], names)[0]
        # Div cuts towards zero; what is left after Mod divides without a rest.
        rest = self.add(scope, "Mod", names)[0]
        whole = self.add(scope, "Sub", [names[0], rest])[0]
        return self.add(scope, "Div", [whole, names[1]])[0]

    def used_tensors(self, also: Sequence[str]) -> dict[str, Tensor]:
        """The stored tensors that a node reads, or that `also` names."""
        read = {name for node in self.nodes for name in node.input}.union(also)
        return {name: tensor for name, tensor in self.stored.items() if name in read}
