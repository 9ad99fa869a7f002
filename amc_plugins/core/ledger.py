"""What has been recorded so far: nodes, the values they make, constants, and the ints that sizes and arithmetic give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from amc_plugins.core.describe import plain_params
from amc_plugins.core.document import Node, Ref
from amc_plugins.core.errors import CaptureError, UnsupportedOpError
from amc_plugins.core.intrinsics import CONSTANT, INT, SIZE, Constant, IntArithmetic, Size
from amc_plugins.core.names import Names
from amc_plugins.core.source_lines import user_line
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.core.tracing import TracedInt, TracedQuotient, TracedSize
from amc_plugins.handlers import Call, LayerHandler, Value

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


@dataclass
class _Tracked:
    name: str
    tensor: Tensor  # held, so that the ids of tensors stay unique while recording
    version: int


class Ledger:
    """The books of a recorder: it says which calls are recorded, this knows what their tensors and ints are called."""

    def __init__(self, model: nn.Module) -> None:
        self.recording = Recording()
        self._tensor_paths = {id(tensor): path for path, tensor in (*model.named_parameters(), *model.named_buffers())}
        self._tracked: dict[int, _Tracked] = {}
        self._constants: dict[int, tuple[str, Tensor]] = {}
        self._trainable: dict[int, Tensor] = {}  # constants that were computed from trainable parameters
        self._names = Names()
        self._active = False

    # --- values ---

    def _call(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any], module: nn.Module | None) -> Call:
        def convert(item: Any) -> Any:
            if isinstance(item, TracedInt):
                return Ref(item.source())
            if isinstance(item, TracedQuotient):
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
                self.recording.modules[name] = Constant(tensor.detach().clone(), trainable)
                self.recording.values[name] = tensor
                node = Node(
                    name=name, layer=name, op=CONSTANT, outputs=[name], params={"trainable": trainable}, source=user_line()
                )
                self.recording.nodes.append(node)

    def _add(self, name: str, layer: str, handler: LayerHandler, call: Call, result: Any) -> None:
        inputs = [value.name for value in call.values()]
        self._materialise(inputs)
        try:
            params = plain_params(handler, self.recording.modules[layer])
        except UnsupportedOpError:
            params = {}  # the op runs and compresses all the same; saving says what is missing
        op = handler.spec.op
        node = Node(name=name, layer=layer, op=op, inputs=inputs, outputs=["?"], params=params, source=user_line())
        node.op_version = handler.spec.op_version
        self._append(node, result)

    def _append(self, node: Node, result: Any) -> None:
        tensors = tensors_in(result)
        if not tensors:
            raise CaptureError(f"`{node.name}` at {node.source} gave no tensor, but {type(result).__name__}")
        single = len(tensors) == 1
        node.outputs = [node.name if single else f"{node.name}:{index}" for index in range(len(tensors))]
        for name, tensor in zip(node.outputs, tensors, strict=True):
            self._track(name, tensor)
        self.recording.nodes.append(node)

    def _track(self, name: str, tensor: Tensor) -> None:
        self._names.reserve(name)
        if id(tensor) in self._tracked:  # changed in place: what it was is gone
            self.recording.values.pop(self._tracked[id(tensor)].name, None)
        self._tracked[id(tensor)] = _Tracked(name, tensor, version_of(tensor))
        self.recording.values[name] = tensor

    def _refuse_stale(self, tensor: Tensor) -> None:
        """Views share a version counter with their base, so a tensor changed through another one shows here."""
        entry = self._tracked.get(id(tensor))
        if entry is not None and entry.version != version_of(tensor):
            raise CaptureError(
                f"`{entry.name}` is used at {user_line()} after its memory was changed in place through a view of it",
                hint="write the result to a new tensor (torch.cat, torch.where, x + y) instead of into a view",
            )

    # --- ints ---

    def _size(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plain = func(*args, **kwargs)
        tensor = args[0] if args else kwargs["self"]
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

    def _fixed(self, number: TracedQuotient) -> float:
        """A quotient of sizes as a plain number, which it stays in the record whatever the sizes are."""
        self.recording.fixed_sizes.append(f"{float(number):g} at {user_line()}")
        return float(number)

    def _traced_size(self, value: str, dim: int, size: int) -> TracedInt:
        name = f"{value}.size{dim}"

        def source() -> str:
            if name not in self.recording.modules:
                self._int_node(name, SIZE, Size(dim), {"dim": dim}, [value])
            return name

        return TracedInt(size, self, source)

    def record_int(self, fn: str, operands: list[Any], result: int) -> TracedInt | int:
        """A step of arithmetic on traced ints (`IntRecorder`); its node is made when something uses it."""
        if not self._active:
            return result
        made: list[str] = []

        def source() -> str:
            if not made:
                refs = [Ref(one.source()) if isinstance(one, TracedInt) else int(one) for one in operands]
                made.append(self._names.numbered(fn))
                self._int_node(made[0], INT, IntArithmetic(fn, refs), {"fn": fn, "operands": refs}, [])
            return made[0]

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
