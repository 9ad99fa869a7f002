"""What has been recorded so far: nodes, the values they make, constants, and the ints that sizes and arithmetic give."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from amc_plugins.core.describe import plain_params
from amc_plugins.core.document import Node, Ref, tree_leaves
from amc_plugins.core.errors import CaptureError, UnsupportedOpError
from amc_plugins.core.intrinsics import CONSTANT, INT, REQUIRE, SIZE, Constant, IntArithmetic, Require, Size
from amc_plugins.core.names import Names
from amc_plugins.core.source_lines import is_asked_by_user, user_line
from amc_plugins.core.structure import leaves, map_leaves, tensors_in
from amc_plugins.core.tracing import TracedFloat, TracedInt, TracedSize
from amc_plugins.core.views import Link, memory, place
from amc_plugins.handlers import Call, Int, LayerHandler, Value

__all__ = ["Ledger", "Recording", "version_of"]


@dataclass
class Recording:
    """What was recorded: nodes in running order, their modules, and the values that were seen."""

    nodes: list[Node] = field(default_factory=list)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()
    """The root's positional arguments, tensors cloned before anything ran."""
    input_names: list[str] = field(default_factory=list)
    signature: list[Any] = field(default_factory=list)
    outputs: Any = None
    returned: list[Tensor] = field(default_factory=list)
    """Copies of the tensors that an original in eval mode returned."""
    values: dict[str, Tensor] = field(default_factory=dict)
    """Recorded tensors by value name, those left out that were changed in place afterwards."""
    opaque: dict[str, str] = field(default_factory=dict)
    """Per opaque node: which op, where, and why it is opaque."""
    fixed_sizes: list[str] = field(default_factory=list)
    """Where a number computed from sizes became a constant of the record."""
    fixed_values: set[str] = field(default_factory=set)
    """Names of requirements on numbers that Python took, rather than compared."""
    data_reads: list[str] = field(default_factory=list)
    """Where Python took numbers of the data (`if x.sum() > 0:`, `x.max().item()`), and by which call."""

    def drop_unused(self) -> None:
        """Leave out nodes whose values nothing needs: what stays makes the outputs, or holds sizes to something."""
        needed = set(tree_leaves(self.outputs))
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.op == REQUIRE or needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs, node.symbols)
        self.nodes = kept[::-1]
        layers = {node.layer for node in self.nodes}
        self.opaque = {name: reason for name, reason in self.opaque.items() if name in layers}


@dataclass
class _Tracked:
    name: str
    tensor: Tensor  # held, so that the ids of tensors stay unique while recording
    version: int
    writes: int
    """How many writings into its memory had been recorded."""


class Ledger:
    """The books of a recorder: it says which calls are recorded, this knows what their tensors and ints are called."""

    def __init__(self, model: nn.Module) -> None:
        self.recording = Recording()
        self._tensor_paths = {id(tensor): path for path, tensor in (*model.named_parameters(), *model.named_buffers())}
        self._parameter_blocks = {memory(parameter) for parameter in model.parameters()}
        self._tracked: dict[int, _Tracked] = {}
        self._places: dict[Hashable, Tensor] = {}  # the latest tensor at each place of memory
        self._links: dict[int, Link] = {}  # by view
        self._writes: dict[int | None, int] = {}  # recorded writings by block of memory
        self._constants: dict[int, tuple[str, Tensor]] = {}
        self._trainable: dict[int, Tensor] = {}  # constants that were computed from trainable parameters
        self._names = Names()
        self._active = False
        self._insists = False
        self._computed: dict[tuple[Any, ...], str] = {}  # ints by the arithmetic that makes them
        self._required: dict[tuple[Any, ...], str] = {}

    # --- values ---

    def _call(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any], module: nn.Module | None) -> Call:
        def convert(item: Any) -> Any:
            if isinstance(item, TracedInt):
                return self._operand(item)
            if isinstance(item, TracedFloat):
                return self._fixed(item)
            return self._value(item) if isinstance(item, Tensor) else item

        return Call(target, map_leaves(args, convert), map_leaves(kwargs, convert), original=module)

    def _value(self, tensor: Tensor) -> Value:
        shape = tuple(int(size) for size in tensor.shape)
        entry = self._tracked.get(id(tensor))
        if entry is not None:
            return Value(entry.name, shape, tensor.dtype)
        if id(tensor) not in self._constants:
            path = self._tensor_paths.get(id(tensor))
            self._constants[id(tensor)] = self._names.unique(path) if path else self._names.numbered("constant"), tensor
        name, held = self._constants[id(tensor)]
        return Value(name, shape, tensor.dtype, held.detach().requires_grad_() if id(tensor) in self._trainable else held)

    def _materialise(self, names: list[str]) -> None:
        """Add a node for each constant among `names` that has none yet."""
        for name, tensor in self._constants.values():
            if name in names and name not in self.recording.modules:
                trainable = isinstance(tensor, nn.Parameter) or id(tensor) in self._trainable
                params = {"trainable": trainable, "computed": trainable and self._is_computed(tensor)}
                self.recording.modules[name] = Constant(tensor.detach().clone(), **params)
                self.recording.values[name] = tensor
                self.recording.nodes.append(
                    Node(name=name, layer=name, op=CONSTANT, outputs=[name], params=params, source=user_line())
                )

    def _is_computed(self, tensor: Tensor) -> bool:
        """Whether a trainable constant is neither a parameter nor a view of one, so that without gradients it requires none."""
        return memory(tensor) not in self._parameter_blocks if torch.is_grad_enabled() else not tensor.requires_grad

    def _add(
        self, name: str, layer: str, handler: LayerHandler, call: Call, result: Any, changed: Sequence[Tensor] = ()
    ) -> None:
        inputs = [value.name for value in call.values()]
        self._materialise(inputs)
        try:
            params = plain_params(handler, self.recording.modules[layer])
        except UnsupportedOpError:
            params = {}  # the op runs and compresses all the same; saving says what is missing
        op = handler.spec.op
        node = Node(name=name, layer=layer, op=op, inputs=inputs, outputs=["?"], params=params, source=user_line())
        node.op_version = handler.spec.op_version
        self._append(node, result, changed)

    def _append(self, node: Node, result: Any, changed: Sequence[Tensor] = ()) -> None:
        """Add a node that gives `result`; the tensors `changed` among it were written into by it."""
        tensors = tensors_in(result)
        if not tensors:
            raise CaptureError(f"`{node.name}` at {node.source} gave no tensor, but {type(result).__name__}")
        single = len(tensors) == 1
        node.outputs = [node.name if single else f"{node.name}:{index}" for index in range(len(tensors))]
        self.recording.nodes.append(node)
        for name, tensor in zip(node.outputs, tensors, strict=True):
            self._track(name, tensor)
        for tensor in changed:
            self._written(tensor)

    def _track(self, name: str, tensor: Tensor) -> None:
        self._names.reserve(name)
        if id(tensor) in self._tracked:  # changed in place: what it was is gone
            self.recording.values.pop(self._tracked[id(tensor)].name, None)
        self._tracked[id(tensor)] = _Tracked(name, tensor, version_of(tensor), self._writes.get(memory(tensor), 0))
        self._places[place(tensor)] = tensor
        self.recording.values[name] = tensor

    # --- memory ---

    def _is_current(self, entry: _Tracked) -> bool:
        return entry.writes == self._writes.get(memory(entry.tensor), 0) and entry.version == version_of(entry.tensor)

    def _refresh(self, tensor: Tensor) -> None:
        """Give a tensor whose memory was written into through another one the name of its present value.

        Raises:
            CaptureError: that writing is not in the record.
        """
        entry = self._tracked.get(id(tensor))
        writes = self._writes.get(memory(tensor), 0)
        if entry is not None and writes == entry.writes > 0 and version_of(tensor) == entry.version + 1:
            entry.version += 1  # a custom autograd function marked as dirty what it had written
        if entry is not None and self._is_current(entry):
            return
        if entry is None or entry.writes != writes:
            link = self._links.get(id(tensor))
            if link is not None and writes:
                self._refresh(link.base)
                link.again()
                return
            twin = self._places.get(place(tensor))
            if twin is not None and twin is not tensor and self._is_current(self._tracked[id(twin)]):
                self._track(self._tracked[id(twin)].name, tensor)
                if id(twin) in self._links:
                    self._links[id(tensor)] = self._links[id(twin)]
                return
            if entry is None and not writes:
                return  # a constant, or memory of its own
        name = f"`{entry.name}`" if entry is not None else "a constant"
        raise CaptureError(
            f"{name} is used at {user_line()} after its memory was changed in place through a view of it",
            hint="write the result to a new tensor (torch.cat, torch.where, x + y) instead of into a view",
        )

    def _written(self, tensor: Tensor) -> None:
        """A tensor was written into and has its new name: what it is a view of has a new value as well."""
        block = memory(tensor)
        before = self._writes.get(block, 0)
        self._writes[block] = before + 1
        self._tracked[id(tensor)].writes = before + 1
        while (link := self._links.get(id(tensor))) is not None and self._wrote_back(link, tensor, before):
            tensor = link.base

    def _wrote_back(self, link: Link, view: Tensor, before: int) -> bool:
        """Record the new value of a base, if there is an op for it; else it cannot be used any more."""
        raise NotImplementedError

    # --- ints ---

    def _operand(self, number: int) -> Int:
        """A number as nodes hold it; one of another record, around or inside this one, is plain."""
        if not isinstance(number, TracedInt):
            return int(number)
        return Ref(number.source()) if number.recorder is self else number.plain()

    def _inside_torch(self) -> bool:
        """Whether it is not the user's code that is running: what torch asks sizes is the same for all of them."""
        raise NotImplementedError

    def _size(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plain = func(*args, **kwargs)
        tensor = args[0] if args else kwargs["self"]
        self._refresh(tensor)
        entry = self._tracked.get(id(tensor))
        if entry is None:
            return plain
        if isinstance(plain, int):
            dim = args[1] if len(args) > 1 else kwargs["dim"]
            return self._traced_size(entry.name, int(dim) % tensor.dim(), plain)
        return TracedSize(self._traced_size(entry.name, dim, size) for dim, size in enumerate(plain))

    def _count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensor = args[0] if args else next(iter(kwargs.values()))
        entry = self._tracked.get(id(tensor))
        if entry is None:
            return func(*args, **kwargs)
        return TracedSize(self._traced_size(entry.name, dim, size) for dim, size in enumerate(tuple(tensor.shape))).numel()

    def _fixed(self, number: TracedFloat) -> float:
        """A float computed from sizes as the number that it stays in the record: it is good for no other."""
        self.recording.fixed_sizes.append(f"{number.plain():g} at {user_line()}")
        self._insists = True
        try:
            return number.fixed()
        finally:
            self._insists = False

    def _fix_floats(self, item: Any) -> None:
        for number in leaves(item):
            if isinstance(number, TracedFloat):
                self._fixed(number)

    def require(self, fn: str, left: Any, right: Any, *, value: bool = False) -> None:
        """A node that holds the network to what Python saw of sizes while it was recorded (`SizeRecorder`)."""
        if not self._active or not (self._insists or (not self._inside_torch() and is_asked_by_user())):
            return
        operands = [self._operand(one) for one in (left, right)]
        key = (fn, *operands)
        if value and key in self._required:
            self.recording.fixed_values.add(self._required[key])
        if key in self._required or (operands[0] == operands[1] and fn in ("eq", "le", "ge")):
            return
        name, where = self._names.numbered("require"), user_line() or "an unknown line"
        self._required[key] = name
        if value:
            self.recording.fixed_values.add(name)
        params = {"fn": fn, "operands": operands, "where": where}
        self._int_node(name, REQUIRE, Require(fn, operands, where), params, [])

    def _traced_size(self, value: str, dim: int, size: int) -> TracedInt:
        name = f"{value}.size{dim}"

        def source() -> str:
            if name not in self.recording.modules:
                self._int_node(name, SIZE, Size(dim), {"dim": dim}, [value])
            return name

        return TracedInt(size, self, source)

    def record_int(self, fn: str, operands: list[Any], result: int) -> TracedInt | int:
        """A step of arithmetic on traced ints (`SizeRecorder`); its node is made when something uses it."""
        if not self._active:
            return result

        def source() -> str:
            refs = [self._operand(one) for one in operands]
            key = (fn, *refs)
            if key not in self._computed:
                name = self._computed[key] = self._names.numbered(fn)
                self._int_node(name, INT, IntArithmetic(fn, refs), {"fn": fn, "operands": refs}, [])
            return self._computed[key]

        return TracedInt(result, self, source)

    def _int_node(self, name: str, op: str, module: nn.Module, params: dict[str, Any], inputs: list[str]) -> None:
        self._names.reserve(name)
        self.recording.modules[name] = module
        self.recording.nodes.append(
            Node(name=name, layer=name, op=op, inputs=inputs, outputs=[name], params=params, source=user_line())
        )


def version_of(tensor: Tensor) -> int:
    """The counter that every change in place raises; -1 where there is none."""
    return -1 if tensor.is_inference() else tensor._version
