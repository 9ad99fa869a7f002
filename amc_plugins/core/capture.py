"""Capture: a user's network becomes a `ReconstructedNetwork`, and the copy is checked against the original."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from amc_plugins.core.claims import Claims
from amc_plugins.core.document import Document, InputSpec, Node, tree_leaves
from amc_plugins.core.errors import CaptureError
from amc_plugins.core.network import DTYPES, ReconstructedNetwork, walk
from amc_plugins.core.plain_layers import contiguous
from amc_plugins.core.recorder import Recorder, Recording
from amc_plugins.core.structure import map_leaves, tensors_in

__all__ = ["Boundary", "capture", "capturing"]

logger = logging.getLogger("amc_plugins.capture")


def capture(model: nn.Module, *example: Any, strict: bool = False) -> ReconstructedNetwork:
    """Record `model(*example)` and return the network that was recorded, verified against the original.

    The model is run in eval mode under `torch.no_grad()`; it is neither changed nor aliased. Python control flow is
    recorded as it ran.

    Args:
        model: the trained network; `DataParallel`, DDP and `torch.compile` wrappers are taken off.
        example: its inputs, by position: tensors, or lists, tuples and dictionaries of them. The first axis is the batch.
        strict: refuse ops without a handler instead of keeping them as opaque nodes.

    Raises:
        CaptureError: the network cannot be recorded, or the record does not give the same outputs; names the first
            diverging node.
        UnsupportedOpError: `strict` and an op has no handler.
    """
    model = unwrap(model)
    example = map_leaves(example, lambda item: item.detach().clone() if isinstance(item, Tensor) else item)
    with _eval_mode(model), torch.no_grad():
        with capturing(model, strict=strict) as boundary:
            model(*example)
        return boundary.network


class Boundary:
    """The record of the one forward that ran inside `capturing`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._network: ReconstructedNetwork | None = None

    @property
    def network(self) -> ReconstructedNetwork:
        """The verified network. Raises `CaptureError` when the model did not run inside the boundary or the record is wrong."""
        if self._network is None:
            if not self._recorder.done:
                raise CaptureError(
                    "the model was not called inside the capture boundary",
                    hint="call model(example) between the boundary's start and end",
                )
            self._network = _finished(self._recorder)
        return self._network


@contextmanager
def capturing(model: nn.Module, *, strict: bool = False) -> Iterator[Boundary]:
    """The boundary form: the first call of `model` inside the block is recorded, in the mode that the model is in.

    Example:
        with amc.capturing(model) as boundary:
            model(example)
        network = boundary.network
    """
    model = unwrap(model)
    with _uncompiled(model), Recorder(model, Claims.installed(), strict=strict) as recorder:
        yield Boundary(recorder)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside `DataParallel`, DDP and `torch.compile` wrappers. Raises `CaptureError` on a `ScriptModule`."""
    while True:
        if isinstance(model, torch.jit.ScriptModule):
            raise CaptureError(
                "a TorchScript module has no Python code to record",
                hint="capture the nn.Module that it was scripted or traced from",
            )
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif _is_compiled(model):
            model = cast("Any", model)._orig_mod
        elif isinstance(model, nn.Module):
            return model
        else:
            raise CaptureError(f"a torch.nn.Module is needed, given was a {type(model).__name__}")


def _is_compiled(model: Any) -> bool:
    compiler = sys.modules.get("torch._dynamo.eval_frame")  # a second to import, for nothing if nobody compiled
    return compiler is not None and isinstance(model, compiler.OptimizedModule)


@contextmanager
def _uncompiled(model: nn.Module) -> Iterator[None]:
    """Parts that `torch.compile` wrapped stand for themselves meanwhile, and compiled functions run as they are written."""
    swapped = [
        (owner, name, child)
        for owner in model.modules()
        for name, child in owner._modules.items()
        if child is not None and _is_compiled(child)
    ]
    compiler = sys.modules.get("torch._dynamo")
    eager = torch.compiler.set_stance("force_eager") if compiler is not None and hasattr(torch.compiler, "set_stance") else None
    try:
        for owner, name, child in swapped:
            owner._modules[name] = unwrap(child)
        with eager or nullcontext():
            yield
    finally:
        for owner, name, child in swapped:
            owner._modules[name] = child


@contextmanager
def _eval_mode(*modules: nn.Module) -> Iterator[None]:
    modes = [(one, one.training) for module in modules for one in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for one, training in modes:
            one.training = training


def _finished(recorder: Recorder) -> ReconstructedNetwork:
    recording, model = recorder.recording, recorder.model
    _drop_unused(recording)
    network = ReconstructedNetwork(_document(recording), recording.modules)
    with _uncompiled(model), _eval_mode(model, network), torch.no_grad(), _recorded_attention():
        _verify(network, model, recording)
    contiguous(network)
    network.train(model.training)
    for where in recording.fixed_sizes:
        logger.warning("a number computed from sizes is fixed in the record: %s; other sizes would need another", where)
    for reason, times in Counter(recording.opaque.values()).items():
        again = f" ({times} times)" if times > 1 else ""
        logger.warning("opaque operation: %s%s; channels that touch it stay as they are", reason, again)
    return network


@contextmanager
def _recorded_attention() -> Iterator[None]:
    """Without torch's fused attention of whole modules, which rounds otherwise: it is off while functions are recorded."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _document(recording: Recording) -> Document:
    specs = []
    for name, tensor in zip(recording.input_names, tensors_in(recording.inputs), strict=True):
        specs.append(InputSpec(name=name, dtype=DTYPES[tensor.dtype], shape=list(tensor.shape)))  # type: ignore[arg-type]
    metadata = {f"opaque:{name}": reason for name, reason in recording.opaque.items()}
    if recording.fixed_sizes:
        metadata["fixed_sizes"] = "; ".join(recording.fixed_sizes)
    return Document(
        inputs=specs, signature=recording.signature, nodes=recording.nodes, outputs=recording.outputs, metadata=metadata
    )


def _drop_unused(recording: Recording) -> None:
    """Leave out nodes whose values nothing needs: everything recorded is a function of its inputs."""
    needed = set(tree_leaves(recording.outputs))
    kept: list[Node] = []
    for node in reversed(recording.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs, node.symbols)
    recording.nodes = kept[::-1]
    layers = {node.layer for node in recording.nodes}
    recording.opaque = {name: reason for name, reason in recording.opaque.items() if name in layers}


# --- verification ---


def _verify(network: ReconstructedNetwork, model: nn.Module, recording: Recording) -> None:
    """Same bits on the example and, where the original runs it, on other data in another batch size; then the batch is open."""
    first = recording.returned or tensors_in(model(*_copied(recording.inputs)))
    _compare(network, model, recording.inputs, first, "the example")
    second = _another_batch(recording.inputs, change=True)
    if second is None:
        return
    try:
        expected = tensors_in(model(*_copied(second)))
    except Exception as error:  # noqa: BLE001 - the user's own network refuses another batch size: so will the record
        logger.info("the network does not run on another batch size (%s): its batch size stays fixed", error)
        return
    for spec in network.graph.inputs:
        if spec.shape:
            spec.shape[0] = None
    try:
        _compare(network, model, second, expected, "a second batch size")
    except CaptureError:
        if _same_path(model, recording, second):
            raise
        # other data took another way through the user's code: the record is of the example's, on which it must hold
        repeated = _another_batch(recording.inputs, change=False)
        _compare(network, model, repeated, tensors_in(model(*_copied(repeated))), "a second batch size")
        why = "control flow depends on the data: the record holds the way that the example took"
        network.graph.metadata["control_flow"] = why
        logger.warning("%s", why)


def _copied(inputs: Any) -> Any:
    return map_leaves(inputs, lambda item: item.clone() if isinstance(item, Tensor) else item)


def _another_batch(inputs: Any, change: bool) -> Any:
    """The example and its first sample again; None when the inputs do not share a batch axis.

    With `change` everything is mirrored and made smaller, so that a value taken from the example's data shows.
    """
    tensors = tensors_in(inputs)
    if any(tensor.dim() == 0 or not len(tensor) for tensor in tensors) or len({len(tensor) for tensor in tensors}) != 1:
        return None

    def changed(tensor: Tensor) -> Tensor:
        tensor = torch.cat([tensor, tensor[:1]])
        if not change:
            return tensor
        tensor = tensor.flip(-1) if tensor.dim() > 1 else tensor
        return tensor * 0.75 if tensor.is_floating_point() else tensor

    return map_leaves(inputs, lambda item: changed(item) if isinstance(item, Tensor) else item)


def _same_path(model: nn.Module, recording: Recording, inputs: Any) -> bool:
    """Whether the user's code does the same operations for `inputs` as were recorded."""
    with capturing(model) as boundary:
        model(*_copied(inputs))
    again = boundary._recorder.recording
    _drop_unused(again)
    return [(node.name, node.op) for node in again.nodes] == [(node.name, node.op) for node in recording.nodes]


def _compare(network: ReconstructedNetwork, model: nn.Module, inputs: Any, expected: list[Tensor], what: str) -> None:
    try:
        given = tensors_in(network(*_copied(inputs)))
    except Exception:  # noqa: BLE001 - a record that does not even run: `_first_difference` finds where and says why
        given = []
    if len(expected) == len(given) and all(_same(a, b) for a, b in zip(expected, given, strict=True)):
        return
    again = tensors_in(model(*_copied(inputs)))
    if not (len(expected) == len(again) and all(_same(a, b) for a, b in zip(expected, again, strict=True))):
        raise CaptureError(
            f"the network gives different outputs on {what} each time it runs, in eval mode too: no record can be verified",
            hint="make its forward deterministic in eval mode (random numbers only when self.training)",
        )
    raise CaptureError(
        f"the record does not reproduce the network on {what}: {_first_difference(network, model, inputs)}",
        hint="something in forward is invisible to capture (NumPy, int(), a value computed once): see the named line",
    )


def _first_difference(network: ReconstructedNetwork, model: nn.Module, inputs: Any) -> str:
    """Record the original again on these inputs and walk both side by side."""
    with capturing(model) as boundary:
        model(*_copied(inputs))
    reference = boundary._recorder.recording
    by_name = {node.name: node for node in reference.nodes}
    try:
        for step in walk(network, _copied(inputs)):
            node = by_name.get(step.node.name)
            if node is None:
                return f"`{step.node.name}` at {step.node.source} did not run again"
            for name, mine in zip(step.node.outputs, step.outputs, strict=True):
                theirs = reference.values.get(name)
                if theirs is not None and not _same(theirs, mine):
                    return f"`{step.node.name}` at {step.node.source} is the first node whose output differs"
    except Exception as error:  # noqa: BLE001 - whatever the record's failure is, it is the answer
        return f"it fails with {type(error).__name__}: {error}"
    return "the outputs differ although every recorded value agrees"


def _same(a: Tensor, b: Any) -> bool:
    """Equal in every bit that matters: NaN equals NaN."""
    if not isinstance(b, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
