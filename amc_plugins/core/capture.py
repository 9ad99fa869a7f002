"""Capture: a user's network becomes a `ReconstructedNetwork`, and the copy is checked against the original."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from amc_plugins.core.claims import Claims
from amc_plugins.core.document import Document, InputSpec
from amc_plugins.core.errors import CaptureError
from amc_plugins.core.network import DTYPES, ReconstructedNetwork
from amc_plugins.core.plain_layers import contiguous
from amc_plugins.core.recorder import Recorder, Recording
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.core.verifying import verify

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
    recording.drop_unused()
    network = ReconstructedNetwork(_document(recording), recording.modules)
    with _uncompiled(model), _eval_mode(model, network), torch.no_grad(), _recorded_attention():
        verify(network, model, recording)
    contiguous(network)
    network.train(model.training)
    if "data_reads" in network.graph.metadata:
        logger.warning("%s", network.graph.metadata["data_reads"])
    for where in _counted(recording.fixed_sizes):
        logger.warning("a number computed from sizes is fixed in the record: %s; sizes that give another are refused", where)
    for reason in _counted(recording.opaque.values()):
        logger.warning("opaque operation: %s; channels that touch it stay as they are", reason)
    return network


def _counted(reasons: Iterable[str]) -> list[str]:
    """Each once, with how often it came."""
    return [f"{one} ({times} times)" if times > 1 else one for one, times in Counter(reasons).items()]


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
    if recording.data_reads:
        where = ", ".join(recording.data_reads)
        metadata["data_reads"] = f"numbers are read from the data at {where}: the record holds what follows from the example's"
    return Document(
        inputs=specs, signature=recording.signature, nodes=recording.nodes, outputs=recording.outputs, metadata=metadata
    )
