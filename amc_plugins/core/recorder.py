"""Records one eager forward: a `TorchFunctionMode` sees functions and tensor methods, global module hooks see modules."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name

from amc_plugins.core.claims import Claims
from amc_plugins.core.describe import plain_params
from amc_plugins.core.document import Node, Ref
from amc_plugins.core.errors import CaptureError, UnsupportedOpError
from amc_plugins.core.intrinsics import CONSTANT, INT, OPAQUE, SIZE, Constant, IntArithmetic, Opaque, Size, Slot
from amc_plugins.core.names import Names
from amc_plugins.core.plain_layers import without_hooks
from amc_plugins.core.source_lines import shortest_handler, user_line
from amc_plugins.core.structure import among, argument_names, leaves, map_leaves, tensors_in, to_tree
from amc_plugins.core.tracing import TracedInt, TracedQuotient, TracedSize
from amc_plugins.handlers import Call, Declined, LayerHandler, Value

__all__ = ["Recorder", "Recording"]

_SIZE_GETTERS = frozenset({"torch.Tensor.shape.__get__", "torch.Tensor.size"})
_COUNTS = frozenset({"torch.Tensor.numel", "torch.Tensor.nelement", "torch.numel"})


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


class Recorder(TorchFunctionMode):
    """Records the next forward of `model` while it is entered as a context.

    Args:
        model: the root; calls of other modules outside it are ignored.
        claims: which modules and functions have handlers.
        strict: raise on an op without a handler instead of recording it as opaque.
    """

    def __init__(self, model: nn.Module, claims: Claims, *, strict: bool = False) -> None:
        super().__init__()
        self.model = model
        self.claims = claims
        self.strict = strict
        self.recording = Recording()
        self.done = False
        self._paths: dict[int, str] = {}
        for path, module in model.named_modules():
            self._paths.setdefault(id(module), path)
        self._tensor_paths = {id(tensor): path for path, tensor in (*model.named_parameters(), *model.named_buffers())}
        self._tracked: dict[int, _Tracked] = {}
        self._constants: dict[int, tuple[str, Tensor]] = {}
        self._trainable: dict[int, Tensor] = {}  # constants that were computed from trainable parameters
        self._names = Names()
        self._layers: dict[int, str] = {}
        self._copies: dict[int, nn.Parameter] = {}
        self._leaf: nn.Module | None = None
        self._active = False
        self._busy = False  # the recorder itself is using tensors: not part of the network
        self._handles: list[Any] = []
        self._thread = threading.get_ident()

    # --- context ---

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        self._handles = [
            register_module_forward_pre_hook(lambda *call: self._unrecorded(self._before_module, *call)),
            register_module_forward_hook(
                lambda *call: self._unrecorded(self._after_module, *call), with_kwargs=True, always_call=True
            ),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
            # torch forgets this one, and `torch.compile` would warn about global hooks for the rest of the process
            torch_module._global_forward_hooks_with_kwargs.pop(handle.id, None)
        self._active = False
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def _unrecorded(self, hook: Callable[..., None], *call: Any) -> None:
        if self._busy or threading.get_ident() != self._thread:  # the hooks are for modules of the whole process
            return
        self._busy = True
        try:
            hook(*call)
        finally:
            self._busy = False

    # --- modules ---

    def _before_module(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if module is self.model and not self._active and not self.done:
            self._active = True
            # the last of its hooks, so that what the user's own hooks make of the output is recorded as well
            self._handles.append(module.register_forward_hook(self._after_root, with_kwargs=True))
            self._begin(args)
        if not self._active or self._leaf is not None:
            return
        if isinstance(module, torch.jit.ScriptModule):
            raise CaptureError(
                f"`{self._path(module)}` is a TorchScript module, called at {user_line()}: it has no Python code to record",
                hint="put the nn.Module that it was scripted or traced from in its place",
            )
        if self.claims.is_leaf(module):
            self._leaf = module
            for tensor in tensors_in(args):
                self._refuse_stale(tensor)
        else:
            self._names.enter(self._path(module))

    def _after_module(self, module: nn.Module, args: tuple[Any, ...], *results: Any) -> None:
        """`results` are the keywords and the output, or the output alone (None) when the module raised."""
        if not self._active or (self._leaf is not None and module is not self._leaf):
            return
        if self._leaf is None:
            if self._names.inside:
                self._names.leave()
        else:
            self._leaf = None
            if len(results) == 2:
                self._record_module(module, args, results[0], results[1])

    def _after_root(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._active and not self._names.inside:  # else it called itself
            self._unrecorded(self._finish, kwargs, output)

    def _path(self, module: nn.Module) -> str:
        path = self._paths.get(id(module))
        if path is None:  # made inside forward: it has no name in the user's network
            path = self._paths[id(module)] = self._names.numbered(type(module).__name__.lower())
        return path

    def _record_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        handler = self.claims.for_module(module)
        assert handler is not None
        target = f"{type(module).__module__}.{type(module).__qualname__}"
        call = self._call(target, args, kwargs, module)
        layer = self._layers.get(id(module))
        if layer is not None:
            self._add(self._names.again(layer), layer, handler, call, output)
            return
        layer = self._layers[id(module)] = self._names.unique(self._path(module) or type(module).__name__.lower())
        try:
            made = without_hooks(handler.module(call))
        except Declined as reason:
            self._record_opaque(layer, without_hooks(copy.deepcopy(module)), target, (args, kwargs), output, (), str(reason))
            return
        self._tie(module, made)
        self.recording.modules[layer] = made
        self._add(layer, layer, handler, call, output)

    def _tie(self, original: nn.Module, made: nn.Module) -> None:
        """Parameters that the user's layers share stay shared between their copies."""
        theirs = dict(original.named_parameters(recurse=False))
        for name, parameter in list(made.named_parameters(recurse=False)):
            if name in theirs and theirs[name].shape == parameter.shape:
                setattr(made, name, self._copies.setdefault(id(theirs[name]), parameter))

    # --- functions ---

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._active or self._busy or self._leaf is not None:
            return func(*args, **kwargs)
        name = resolve_name(func) or f"{getattr(func, '__module__', '')}.{getattr(func, '__name__', func)}"
        if name in _SIZE_GETTERS:
            return self._size(func, args, kwargs)
        if name in _COUNTS:
            return self._count(func, args, kwargs)
        given = list(leaves((args, kwargs)))
        tensors = [one for one in given if isinstance(one, Tensor)]
        if not any(id(one) in self._tracked for one in tensors) and not any(isinstance(one, TracedInt) for one in given):
            return self._folded(tensors, func, args, kwargs)
        for tensor in tensors:
            self._refuse_stale(tensor)
        versions = [_version(tensor) for tensor in tensors]
        written = [one for one in tensors[:1] if _writes(name) and id(one) not in self._tracked]
        before = [one.detach().clone() for one in written]  # a constant that is about to change: the node reads what it was
        result = func(*args, **kwargs)
        changed = [tensor for tensor, version in zip(tensors, versions, strict=True) if _version(tensor) != version]
        for tensor, copied in zip(written, before, strict=True):
            self._constants[id(tensor)] = self._names.numbered("constant"), copied
        if changed or tensors_in(result):  # else it was a question (dtype, dim, is_cuda): the answer is a plain value
            self._record_function(func, name, (args, kwargs), result, changed)
        return result

    def _folded(self, tensors: list[Tensor], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is computed from parameters and other constants alone is a constant: a standardised weight, a position bias.
        It is trainable where something that it is made of is.
        """
        versions = [_version(tensor) for tensor in tensors]
        result = func(*args, **kwargs)
        for tensor, version in zip(tensors, versions, strict=True):
            if _version(tensor) != version:
                self._constants.pop(id(tensor), None)  # what used it read what it was
        if any(one.requires_grad or id(one) in self._trainable for one in tensors):
            for made in tensors_in(result):
                if made.is_floating_point() and not among(made, tensors):
                    self._trainable[id(made)] = made
        return result

    def _record_function(self, func: Any, name: str, arguments: Any, result: Any, changed: list[Tensor]) -> None:
        handler = self.claims.for_function(name)
        if handler is not None and result is None and len(changed) == 1:
            (result,) = changed  # `x[0] = y`: x is another value from here on
        outputs = tensors_in(result)
        lost = [tensor for tensor in changed if not among(tensor, outputs)]
        if handler is None:
            if not changed and all(among(one, tensors_in(arguments)) for one in outputs):
                return  # it gave back what it was given: a conversion to what it already is
            short, why = name.rpartition(".")[2].strip("_") or "op", "there is no handler for it"
        else:
            short, why = handler.spec.name, "it writes into a tensor that it does not return"
            if not lost:
                call = self._call(name, arguments[0], arguments[1], None)
                try:
                    module = handler.module(call)
                except Declined as reason:
                    why = str(reason)
                else:
                    layer = self._names.numbered(short)
                    self.recording.modules[layer] = module
                    self._add(layer, layer, handler, call, result)
                    return
        places = [one for one in leaves(arguments) if isinstance(one, Tensor | TracedInt)]
        mutated = tuple(index for index, one in enumerate(places) if among(one, changed))
        self._record_opaque(self._names.numbered(short), func, name, arguments, [*outputs, *lost], mutated, why)

    def _record_opaque(
        self, layer: str, call: Callable[..., Any], target: str, arguments: Any, result: Any, mutated: tuple[int, ...], why: str
    ) -> None:
        source = user_line()
        if self.strict:
            raise UnsupportedOpError(f"`{target}` at {source}: {why}", hint=shortest_handler(target, call))
        inputs: list[str] = []

        def place(item: Any) -> Any:
            if isinstance(item, TracedQuotient):
                return self._fixed(item)
            if not isinstance(item, Tensor | TracedInt):
                return item
            inputs.append(item.source() if isinstance(item, TracedInt) else self._value(item).name)
            return Slot(len(inputs) - 1)

        placed = map_leaves(arguments, place)
        self._materialise(inputs)
        self.recording.modules[layer] = Opaque(call, target, placed, mutated)
        self.recording.opaque[layer] = f"`{target}` at {source}: {why}"
        self._append(Node(name=layer, layer=layer, op=OPAQUE, inputs=inputs, outputs=["?"], source=source), result)

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
        self._tracked[id(tensor)] = _Tracked(name, tensor, _version(tensor))
        self.recording.values[name] = tensor

    def _refuse_stale(self, tensor: Tensor) -> None:
        """Views share a version counter with their base, so a tensor changed through another one shows here."""
        entry = self._tracked.get(id(tensor))
        if entry is not None and entry.version != _version(tensor):
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

    # --- the root ---

    def _begin(self, args: tuple[Any, ...]) -> None:
        def leaf(stem: str, tensor: Tensor) -> str:
            name = self._names.unique(stem)
            self._track(name, tensor)
            self.recording.input_names.append(name)
            return name

        self.recording.inputs = map_leaves(args, lambda item: item.detach().clone() if isinstance(item, Tensor) else item)
        names = argument_names(self.model, len(args))
        self.recording.signature = [to_tree(item, leaf, name) for item, name in zip(args, names, strict=True)]
        if not self.recording.input_names:
            raise CaptureError(
                "the network was called without a positional tensor", hint="amc.capture(model, torch.rand(1, 3, 224, 224))"
            )

    def _finish(self, kwargs: dict[str, Any], output: Any) -> None:
        if tensors_in(kwargs):
            raise CaptureError(
                f"the network was called with tensors by keyword: {sorted(kwargs)}", hint="pass them by position"
            )

        def leaf(stem: str, item: Any) -> str:
            if isinstance(item, TracedInt):
                return item.source()
            self._refuse_stale(item)
            name = self._value(item).name
            self._materialise([name])
            return name

        self.recording.outputs = to_tree(output, leaf, "output")
        if not any(module.training for module in self.model.modules()):
            self.recording.returned = [one.detach().clone() for one in tensors_in(output)]
        changed = [entry.name for entry in self._tracked.values() if entry.version != _version(entry.tensor)]
        for name in changed:
            self.recording.values.pop(name, None)
        self._active = False
        self.done = True


def _writes(name: str) -> bool:
    """Whether a function of this name changes its first argument."""
    last = name.rpartition(".")[2]
    return last == "__setitem__" or (last.startswith("__i") and last.endswith("__")) or (last.endswith("_") and last[-2] != "_")


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
