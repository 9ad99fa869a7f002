"""Records one eager forward: a `TorchFunctionMode` sees functions and tensor methods, global module hooks see modules."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, resolve_name

from amc_plugins.core.claims import Claims
from amc_plugins.core.document import Node
from amc_plugins.core.errors import CaptureError, UnsupportedOpError
from amc_plugins.core.intrinsics import OPAQUE, Opaque, Slot
from amc_plugins.core.ledger import Ledger, Recording, version_of
from amc_plugins.core.plain_layers import without_hooks
from amc_plugins.core.source_lines import shortest_handler, user_line
from amc_plugins.core.structure import among, argument_names, leaves, map_leaves, tensors_in, to_tree
from amc_plugins.core.tracing import TracedFloat, TracedInt
from amc_plugins.core.views import Link, memory, shared_base, spelled, write_back, writes, written_into
from amc_plugins.handlers import Declined

__all__ = ["Recorder", "Recording"]

_SIZE_GETTERS = frozenset({"torch.Tensor.shape.__get__", "torch.Tensor.size"})
_COUNTS = frozenset({"torch.Tensor.numel", "torch.Tensor.nelement", "torch.numel"})
_READS = (
    frozenset(f"torch.Tensor.{name}" for name in "item tolist numpy equal allclose is_nonzero".split())
    | frozenset(f"torch.Tensor.__{name}__" for name in "bool int float index complex contains array".split())
    | {"torch.equal", "torch.allclose", "torch.is_nonzero"}
)
"""What gives Python numbers of a tensor."""


class Recorder(Ledger, TorchFunctionMode):
    """Records the next forward of `model` while it is entered as a context.

    Args:
        model: the root; calls of other modules outside it are ignored.
        claims: which modules and functions have handlers.
        strict: raise on an op without a handler instead of recording it as opaque.
    """

    def __init__(self, model: nn.Module, claims: Claims, *, strict: bool = False) -> None:
        Ledger.__init__(self, model)
        TorchFunctionMode.__init__(self)
        self.model = model
        self.claims = claims
        self.strict = strict
        self.done = False
        self._paths: dict[int, str] = {}
        for path, module in model.named_modules():
            self._paths.setdefault(id(module), path)
        self._layers: dict[int, str] = {}
        self._copies: dict[int, nn.Parameter] = {}
        self._leaf: nn.Module | None = None
        self._busy = False  # the recorder itself is using tensors: not part of the network
        self._in_call = False
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
                self._refresh(tensor)
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
        given, outputs = tensors_in((args, kwargs)), tensors_in(output)
        changed = [one for one in given if among(one, outputs) and self._was_written(one, getattr(module, "inplace", False))]
        again = partial(self._record_module, module, args, kwargs, output)
        for one in outputs:
            self._link(one, given, None, target, (args, kwargs), outputs, again)
        layer = self._layers.get(id(module))
        if layer is not None:
            self._add(self._names.again(layer), layer, handler, call, output, changed)
            return
        layer = self._layers[id(module)] = self._names.unique(self._path(module) or type(module).__name__.lower())
        try:
            made = without_hooks(handler.module(call))
        except Declined as reason:
            copied = without_hooks(copy.deepcopy(module))
            self._record_opaque(layer, copied, target, (args, kwargs), output, changed, str(reason))
            return
        self._tie(module, made)
        self.recording.modules[layer] = made
        self._add(layer, layer, handler, call, output, changed)

    def _was_written(self, tensor: Tensor, in_place: bool) -> bool:
        """Whether the call that just ended changed a tensor. Tensors of inference mode do not tell."""
        entry = self._tracked.get(id(tensor))
        return entry is not None and (in_place if tensor.is_inference() else entry.version != version_of(tensor))

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
        outer, self._in_call = self._in_call, True
        try:
            return self._called(func, args, kwargs)
        finally:
            self._in_call = outer

    def _inside_torch(self) -> bool:
        return self._in_call or self._busy or self._leaf is not None

    def _called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = resolve_name(func) or f"{getattr(func, '__module__', '')}.{getattr(func, '__name__', func)}"
        if name in _SIZE_GETTERS:
            return self._size(func, args, kwargs)
        if name in _COUNTS:
            return self._count(func, args, kwargs)
        given = list(leaves((args, kwargs)))
        tensors = [one for one in given if isinstance(one, Tensor)]
        for tensor in tensors:
            self._refresh(tensor)
        if not any(id(one) in self._tracked for one in tensors) and not any(isinstance(one, TracedInt) for one in given):
            return self._folded(tensors, func, name, args, kwargs)
        handler = self.claims.for_function(name)
        parts = None if handler is None else handler.unfolded(func)
        if parts is not None:
            TorchFunctionMode.__enter__(self)  # it is off while it is asked
            try:
                return parts(*args, **kwargs)
            finally:
                TorchFunctionMode.__exit__(self, None, None, None)
        versions = [version_of(tensor) for tensor in tensors]
        written = tensors[:1] if writes(name) else []
        before = [(one, one.detach().clone()) for one in self._constants_under(written)]
        result = func(*args, **kwargs)
        changed = [tensor for tensor, version in zip(tensors, versions, strict=True) if version_of(tensor) != version]
        changed = written_into([*changed, *(one for one in written if one.is_inference())], [*written, *tensors_in(result)])
        for tensor, copied in before:  # a constant that changed: the node reads what it was
            self._constants[id(tensor)] = self._names.numbered("constant"), copied
        if changed or tensors_in(result):  # else it was a question (dtype, dim, is_cuda): the answer is a plain value
            self._record_function(func, name, (args, kwargs), result, changed)
        elif name in _READS and (read := f"{user_line()} (`{name}`)") not in self.recording.data_reads:
            self.recording.data_reads.append(read)
        return result

    def _constants_under(self, written: list[Tensor]) -> list[Tensor]:
        """The constants whose memory is about to change: those that are written into, and what they are views of."""
        found = []
        for tensor in written:
            while id(tensor) not in self._tracked:
                found.append(tensor)
                if id(tensor) not in self._links:
                    break
                tensor = self._links[id(tensor)].base  # noqa: PLW2901 - up the chain of views
        return found

    def _link(
        self,
        made: Tensor,
        given: list[Tensor],
        func: Callable[..., Any] | None,
        name: str,
        arguments: Any,
        results: list[Tensor],
        again: Callable[[], None],
    ) -> None:
        """Remember what a tensor is a view of."""
        base = shared_base(made, given)
        if base is not None:
            self._links[id(made)] = Link(base, made, func, name, arguments, results, again)

    def _wrote_back(self, link: Link, view: Tensor, before: int) -> bool:
        found = write_back(link, view)
        if found is None:
            return False
        name, args = found
        others = [self._tracked.get(id(one)) for one in link.results if one is not view]
        if any(one is None or one.writes < before for one in others):
            mine = self._tracked[id(view)]  # the other pieces of a split are of an earlier value
            link.again()
            self._tracked[id(view)] = mine
        return self._record_op(name, args, {}, link.base) is None

    def _folded(self, tensors: list[Tensor], func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is computed from parameters and other constants alone is a constant: a standardised weight, a position bias.
        It is trainable where something that it is made of is.
        """
        self._fix_floats((args, kwargs))
        versions = [version_of(tensor) for tensor in tensors]
        result = func(*args, **kwargs)
        for tensor, version in zip(tensors, versions, strict=True):
            if version_of(tensor) != version:
                block = memory(tensor)
                for key in [key for key, (_, held) in self._constants.items() if memory(held) == block]:
                    del self._constants[key]  # what used it read what it was
        outputs = tensors_in(result)
        for one in outputs:
            again = partial(self._record_function, func, name, (args, kwargs), result, [])
            self._link(one, tensors, func, name, (args, kwargs), outputs, again)
        if any(one.requires_grad or id(one) in self._trainable for one in tensors):
            for made in outputs:
                if made.is_floating_point() and not among(made, tensors):
                    self._trainable[id(made)] = made
        return result

    def _record_function(self, func: Any, name: str, arguments: Any, result: Any, changed: list[Tensor]) -> None:
        handler = self.claims.for_function(name)
        if handler is not None and result is None and len(changed) == 1:
            (result,) = changed  # `x[0] = y`: x is another value from here on
        given, outputs = tensors_in(arguments), tensors_in(result)
        lost = [tensor for tensor in changed if not among(tensor, outputs)]
        if handler is None:
            if not changed and all(among(one, given) for one in outputs):
                return  # it gave back what it was given: a conversion to what it already is
            short, why = name.rpartition(".")[2].strip("_") or "op", "there is no handler for it"
        else:
            short, why = handler.spec.name, "it writes into a tensor that it does not return"
        for one in outputs:
            again = partial(self._record_function, func, name, arguments, result, [])
            self._link(one, given, func, name, arguments, outputs, again)
        if handler is not None and not lost:
            declined = self._record_op(*spelled(name, *arguments), result, changed)
            if declined is None:
                return
            why = declined
        self._record_opaque(self._names.numbered(short), func, name, arguments, [*outputs, *lost], changed, why)

    def _record_op(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, changed: Sequence[Tensor] = ()
    ) -> str | None:
        """A node for a function, by its name; otherwise why its handler does not cover the call."""
        handler = self.claims.for_function(name)
        if handler is None:
            return "there is no handler for it"
        call = self._call(name, args, kwargs, None)
        try:
            module = handler.module(call)
        except Declined as reason:
            return str(reason)
        layer = self._names.numbered(handler.spec.name)
        self.recording.modules[layer] = module
        self._add(layer, layer, handler, call, result, changed)
        return None

    def _record_opaque(
        self, layer: str, call: Callable[..., Any], target: str, arguments: Any, result: Any, changed: list[Tensor], why: str
    ) -> None:
        source = user_line()
        if self.strict:
            raise UnsupportedOpError(f"`{target}` at {source}: {why}", hint=shortest_handler(target, call))
        inputs: list[str] = []

        def place(item: Any) -> Any:
            if isinstance(item, TracedFloat):
                return self._fixed(item)
            if not isinstance(item, Tensor | TracedInt):
                return item
            inputs.append(item.source() if isinstance(item, TracedInt) else self._value(item).name)
            return Slot(len(inputs) - 1)

        places = [one for one in leaves(arguments) if isinstance(one, Tensor | TracedInt)]
        mutated = tuple(index for index, one in enumerate(places) if among(one, changed))
        placed = map_leaves(arguments, place)
        self._materialise(inputs)
        self.recording.modules[layer] = Opaque(call, target, placed, mutated)
        self.recording.opaque[layer] = f"`{target}` at {source}: {why}"
        self._append(Node(name=layer, layer=layer, op=OPAQUE, inputs=inputs, outputs=["?"], source=source), result, changed)

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
            self._refresh(item)
            name = self._value(item).name
            self._materialise([name])
            return name

        self._fix_floats(output)
        self.recording.outputs = to_tree(output, leaf, "output")
        if not any(module.training for module in self.model.modules()):
            self.recording.returned = [one.detach().clone() for one in tensors_in(output)]
        changed = [entry.name for entry in self._tracked.values() if not self._is_current(entry)]
        for name in changed:
            self.recording.values.pop(name, None)
        self._active = False
        self.done = True
