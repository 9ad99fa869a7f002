"""What can be done to a network, layer by layer, and what stands in the way: the answers of `amc doctor`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from amc_plugins.core.channels import ChannelGroup, ChannelMap, channel_map
from amc_plugins.core.document import Node
from amc_plugins.core.edit import producer
from amc_plugins.core.engine import random_inputs
from amc_plugins.core.errors import AmcError, GraphError, SizeError
from amc_plugins.core.intrinsics import OPAQUE, Constant, Opaque
from amc_plugins.core.macs import profile
from amc_plugins.core.moments import linear_map
from amc_plugins.core.network import ReconstructedNetwork, Step, walk
from amc_plugins.core.structure import map_leaves, tensors_in

__all__ = ["Diagnosis", "LayerDiagnosis", "OpaqueDiagnosis", "Trial", "diagnose"]

_NOTES = ("control_flow", "data_reads")
_NO_WEIGHTS = "it has no weights"
_STEP = 32
"""Pixels that the other image size is larger by: what most strides divide."""


@dataclass(frozen=True)
class LayerDiagnosis:
    """One layer that multiplies."""

    name: str
    op: str
    source: str | None
    """Line of the user's code that calls it."""
    macs: int
    decomposition: str | None
    """Why no product of smaller layers can replace it; None: one can."""
    partners: tuple[str, ...]
    """Other layers that lose the same input channels with it; of what is not pinned."""
    pinned: tuple[str, ...]
    """Why input channels cannot be removed, by which op at which line; empty: they can."""
    inputs: int
    """Input channels that it has weights for; 0: it has none."""
    prunable: int
    """Input channels that can be removed: of each group all but one."""


@dataclass(frozen=True)
class OpaqueDiagnosis:
    """A call that no handler covers."""

    name: str
    call: str
    source: str | None
    handler: str
    """Python code of the shortest handler that would serve."""


@dataclass(frozen=True)
class Trial:
    """Whether the network runs on other inputs."""

    name: str
    inputs: tuple[tuple[int, ...], ...]
    problem: str | None
    """What goes wrong, at which node and line; None: nothing."""


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found."""

    layers: list[LayerDiagnosis] = field(default_factory=list)
    opaque: list[OpaqueDiagnosis] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the record holds for the example alone: where it reads numbers of the data or of sizes."""

    @property
    def healthy(self) -> bool:
        """Whether every call has a handler and another batch size works."""
        return not self.opaque and all(one.problem is None for one in self.trials if one.name == "batch")


def diagnose(network: ReconstructedNetwork) -> Diagnosis:
    """Look at every layer, every opaque call, and at other batch and image sizes. Runs the network a few times."""
    channels = channel_map(network)
    layers = [_layer(network, channels, row.layer, row.macs) for row in profile(network).rows if row.macs]
    opaque = [node for node in network.graph.nodes if node.op == OPAQUE]
    seen = _inputs_of(network, {node.name for node in opaque})
    return Diagnosis(
        layers=list({one.name: one for one in layers}.values()),
        opaque=[_opaque(network, node, seen.get(node.name)) for node in opaque],
        trials=_trials(network),
        notes=[network.graph.metadata[key] for key in _NOTES if key in network.graph.metadata],
    )


# --- layers -------------------------------------------------------------------------------------------------------------


def _layer(network: ReconstructedNetwork, channels: ChannelMap, name: str, macs: int) -> LayerDiagnosis:
    node = network.nodes_of(name)[0]
    ids = channels.inputs.get(name)
    partners: tuple[str, ...] = ()
    pinned: tuple[str, ...] = () if _has_no_weights(network, name) else ("it does not index its input by channel",)
    prunable = 0
    if ids is not None:
        groups, unmade = _groups(channels, ids)
        free = [group for group in groups if not group.pinned]
        partners = tuple(dict.fromkeys(other for group in free for other in group.consumers if other != name))
        reasons = [why for group in groups for why in group.pinned]
        reasons += [why for why, stay in channels.pins.items() if torch.isin(unmade, stay).any()]
        pinned = tuple(dict.fromkeys(reasons))
        prunable = sum(_removable(ids, group) for group in free)
    inputs = 0 if ids is None else len(ids)
    return LayerDiagnosis(name, node.op, node.source, macs, _decomposition(network, name), partners, pinned, inputs, prunable)


def _groups(channels: ChannelMap, ids: Tensor) -> tuple[list[ChannelGroup], Tensor]:
    """The groups of these channels, and the channels that no layer makes: of inputs, constants and calls without a handler."""
    found: dict[str, ChannelGroup] = {}
    unmade = []
    for one in ids.unique().tolist():
        try:
            group = channels.group_of(one)
        except GraphError:
            unmade.append(one)
        else:
            found[group.name] = group
    return list(found.values()), torch.tensor(unmade, dtype=torch.long)


def _removable(ids: Tensor, group: ChannelGroup) -> int:
    """How many of a layer's input channels can go with a group, of which the smallest channel stays."""
    _, counts = ids[torch.isin(ids, group.ids)].unique(return_counts=True)
    return int(counts.sum() - counts.min())


def _has_no_weights(network: ReconstructedNetwork, name: str) -> bool:
    return next(network.layer(name).parameters(), None) is None


def _decomposition(network: ReconstructedNetwork, name: str) -> str | None:
    linear = linear_map(network, name)
    if linear is None:
        return _NO_WEIGHTS if _has_no_weights(network, name) else "it is no linear map of its input"
    if len(network.nodes_of(name)) > 1:
        return "it is called more than once"
    rows, columns = linear.out_channels // linear.groups, linear.weight.shape[1]
    if linear.groups > 1:
        return "its channels are in groups of their own"
    return None if rows * columns > rows + columns else "no rank makes it cheaper"


# --- opaque calls -------------------------------------------------------------------------------------------------------


def _inputs_of(network: ReconstructedNetwork, names: set[str]) -> dict[str, list[Any]]:
    """What the nodes of these names are called with, on random inputs."""
    found: dict[str, list[Any]] = {}
    if names:
        with torch.no_grad():
            for step in walk(network, random_inputs(network)):
                if step.node.name in names:
                    found[step.node.name] = [one.clone() if isinstance(one, Tensor) else one for one in step.inputs]
    return found


def _opaque(network: ReconstructedNetwork, node: Node, inputs: list[Any] | None) -> OpaqueDiagnosis:
    module = network.layer(node.layer)
    assert isinstance(module, Opaque)
    owned = any(_is_parameter(network, value) for value in node.inputs)
    return OpaqueDiagnosis(node.name, module.target, node.source, _handler(module, inputs, owned=owned))


def _is_parameter(network: ReconstructedNetwork, value: str) -> bool:
    made = producer(network, value)
    module = None if made is None else network.layer(made.layer)
    return isinstance(module, Constant) and module.trainable


def _handler(module: Opaque, inputs: list[Any] | None, *, owned: bool) -> str:
    if owned:  # what one line declares has no tensors
        return _whole_handler(module.target)
    if inputs is not None and _leaves_channels_alone(module, inputs):
        return f'transparent("{module.target}")'
    return f'barrier("{module.target}", why="what it does to channels")'


def _leaves_channels_alone(module: Opaque, inputs: list[Any]) -> bool:
    """Whether an output channel depends on that channel of the inputs alone, and on all of them in the same way."""
    tensors = [one for one in inputs if isinstance(one, Tensor)]
    if not tensors or any(one.dim() < 2 or not (one.is_floating_point() or one.is_complex()) for one in tensors):
        return False
    count = tensors[0].shape[1]
    if count < 2 or any(one.shape[1] != count for one in tensors):
        return False
    turned = [one.roll(1, dims=1) if isinstance(one, Tensor) else one for one in inputs]
    apart = [one.clone() if isinstance(one, Tensor) else one for one in inputs]
    for one in apart:
        if isinstance(one, Tensor):
            one[:, 0] = one[:, 0] + 1.0
    try:
        with torch.no_grad():
            plain, rolled, other = (module(*given) for given in (inputs, turned, apart))
    except (RuntimeError, ValueError, TypeError):
        return False
    if not isinstance(plain, Tensor) or plain.dim() < 2 or plain.shape[1] != count:
        return False
    return torch.allclose(rolled, plain.roll(1, dims=1), atol=1e-5) and torch.equal(other[:, 1:], plain[:, 1:])


def _whole_handler(target: str) -> str:
    name = target.rpartition(".")[2].title().replace("_", "")
    return (
        f'class {name}Handler(LayerHandler):  # amc.register({name}Handler, captures="{target}"), or an entry point\n'
        "    def module(self, call): ...  # the module that owns the call's weights\n"
        "    def channels(self, params, inputs, ids): ...  # what it does to channel ids\n"
        "    def keep(self, module, inputs, outputs): ...  # the module on the kept channels"
    )


# --- other inputs -------------------------------------------------------------------------------------------------------


def _trials(network: ReconstructedNetwork) -> list[Trial]:
    several = random_inputs(network, batch=3)
    if any(spec.shape and spec.shape[0] is None for spec in network.graph.inputs):
        found = [_trial(network, "batch", several)]
    else:
        shapes = tuple(tuple(one.shape) for one in tensors_in(several))
        found = [Trial("batch", shapes, "the record holds for this batch only: the network did not run on another one")]
    usual = random_inputs(network)
    if any(one.dim() == 4 for one in tensors_in(usual)):
        larger = map_leaves(usual, lambda one: _larger(one) if isinstance(one, Tensor) and one.dim() == 4 else one)
        found.append(_trial(network, "image size", larger))
    return found


def _larger(image: Tensor) -> Tensor:
    shape = (*image.shape[:2], image.shape[2] + _STEP, image.shape[3] + _STEP)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(image)


def _trial(network: ReconstructedNetwork, name: str, inputs: tuple[Any, ...]) -> Trial:
    running: list[Node] = []

    def note(step: Step) -> None:
        running.append(step.node)

    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    problem: str | None = None
    try:
        with torch.no_grad():
            for _ in walk(network, inputs, around=note):
                pass
    except SizeError as error:
        problem = str(error)
    except (RuntimeError, ValueError, TypeError, IndexError, AmcError) as error:
        node = running[-1] if running else None
        where = f"`{node.name}` ({node.op}) at {node.source or 'an unknown line'}: " if node else ""
        problem = f"{where}{str(error).strip().splitlines()[0]}"
    finally:
        for module, training in modes:
            module.training = training
    return Trial(name, tuple(tuple(one.shape) for one in tensors_in(inputs)), problem)
