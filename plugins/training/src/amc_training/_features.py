"""Outputs of layers while a network runs, and which layers of two networks belong together."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from amc_plugins.compression import linear_map
from amc_plugins.graph import ReconstructedNetwork, producer, shapes
from amc_plugins.plugin import SettingsError, nearest
from amc_training._rng import isolated
from amc_training._shapes import explained
from amc_training._values import device_of

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["Moments", "Taps", "last_features", "matched", "paired_moments"]

_WIDEST = 4096
"""Channels beyond which the map of a hint would be larger than most networks."""


class Taps:
    """Keeps what chosen layers of a network give, until it is taken. Works on the network's copies of layers only."""

    def __init__(self, network: nn.Module, layers: Iterable[str]) -> None:
        self.features: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        for name in layers:
            self._handles.append(layer_of(network, name).register_forward_hook(self._keeper(name)))

    def _keeper(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.features[name] = output

        return keep

    def take(self) -> dict[str, Tensor]:
        """The outputs of the last pass, by layer."""
        features, self.features = self.features, {}
        return features

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


@contextmanager
def tapped(network: nn.Module, layers: Sequence[str]) -> Iterator[Taps]:
    """`Taps` that are gone at the end of the block."""
    taps = Taps(network, layers)
    try:
        yield taps
    finally:
        taps.remove()


def layer_of(network: nn.Module, name: str) -> nn.Module:
    """A layer by its name in the graph, or a submodule by its path."""
    return network.layer(name) if isinstance(network, ReconstructedNetwork) else network.get_submodule(name)


def names_of(network: nn.Module) -> list[str]:
    if isinstance(network, ReconstructedNetwork):
        return list(network.layer_names)
    return [name for name, _ in network.named_modules() if name]


def matched(student: nn.Module, teacher: nn.Module, patterns: Sequence[str], setting: str) -> list[tuple[str, str]]:
    """Pairs (student's layer, teacher's layer) of the same name, by patterns over the teacher's names.

    A layer that a decomposition replaced is matched by the last of its replacements, whose output stands for its own.

    Raises:
        SettingsError: a pattern matches nothing, or the student has no layer of that name.
    """
    theirs, ours = names_of(teacher), set(names_of(student))
    pairs = []
    for pattern in patterns:
        found = [name for name in theirs if fnmatchcase(name, pattern)]
        if not found:
            raise SettingsError(f"`{pattern}` in `{setting}` matches no layer of the teacher{nearest(pattern, theirs)}")
        for name in found:
            parts = [f"{name}.{index}" for index in range(len(ours)) if f"{name}.{index}" in ours]
            if name in ours or parts:
                pairs.append((name if name in ours else parts[-1], name))
            else:
                raise SettingsError(
                    f"`{name}` in `{setting}` is a layer of the teacher and none of the student",
                    hint="name layers that compression leaves, for example activations",
                )
    return list(dict.fromkeys(pairs))


def last_features(teacher: nn.Module, student: nn.Module) -> list[str]:
    """The layer whose output the teacher's last convolution or linear layer reads: Wang, Ge and Wu, Distilling Knowledge by
    Mimicking Features, TPAMI 2022.

    None if a network was not captured, if that is an input or no (N, C, ...) with at most 4096 channels, or if the student has
    no layer of that name.
    """
    if not isinstance(teacher, ReconstructedNetwork) or not isinstance(student, ReconstructedNetwork):
        return []
    weighted = [(node, found) for node in teacher.graph.nodes if (found := linear_map(teacher, node.layer)) is not None]
    if not weighted:
        return []
    node, reads = weighted[-1]
    shape = shapes(teacher)[node.inputs[0]]
    made = producer(teacher, node.inputs[0])
    channels_second = reads.input_axis % len(shape) == 1
    if made is None or not channels_second or reads.in_channels > _WIDEST or made.layer not in student.layer_names:
        return []
    return [made.layer]


@dataclass
class Moments:
    """Sums over samples and positions of what a layer of the student (m channels) and one of the teacher (k) give together."""

    gram: Tensor
    """(m, m) float64, of the student's outputs with themselves."""
    cross: Tensor
    """(m, k) float64, of the student's with the teacher's."""
    sums: Tensor
    """(k,) float64, of the teacher's."""
    squares: Tensor
    """(k,) float64, of their squares."""
    count: int

    def add(self, other: Moments) -> Moments:
        return Moments(
            self.gram + other.gram, self.cross + other.cross, self.sums + other.sums, self.squares + other.squares,
            self.count + other.count,
        )  # fmt: skip


def paired_moments(
    student: nn.Module, teacher: nn.Module, pairs: Sequence[tuple[str, str]], batches: Iterable[tuple[Any, ...]]
) -> list[Moments]:
    """Moments of pairs of layers over batches of inputs, the student in train mode and the teacher in eval mode, as a training
    runs them; neither is changed.

    Raises:
        SettingsError: a layer gives something else than one tensor (N, C, ...), or the two of a pair give other positions.
    """
    found: list[Moments | None] = [None] * len(pairs)
    student = copy.deepcopy(student).train()  # a copy: batch norms in training keep statistics
    modes = [(module, module.training) for module in teacher.modules()]
    teacher.eval()
    try:
        with (
            isolated(None, device_of(student)),
            tapped(student, [a for a, _ in pairs]) as ours,
            tapped(teacher, [b for _, b in pairs]) as theirs,
            torch.no_grad(),
        ):
            for inputs in batches:
                for network in (student, teacher):
                    with explained(network, inputs):
                        network(*inputs)
                features = ours.take(), theirs.take()
                for index, (a, b) in enumerate(pairs):
                    more = _moments(a, features[0].get(a), features[1].get(b))
                    before = found[index]
                    found[index] = more if before is None else before.add(more)
    finally:
        for module, training in modes:
            module.training = training
    if any(one is None for one in found):
        raise SettingsError("hints need inputs to start from, and there is no batch of them")
    return [one for one in found if one is not None]


def _moments(layer: str, student: Any, teacher: Any) -> Moments:
    for one in (student, teacher):
        if not isinstance(one, Tensor) or one.dim() < 2:
            raise SettingsError(f"layer `{layer}` gives no tensor with channels to learn from")
    if (student.shape[:1], student.shape[2:]) != (teacher.shape[:1], teacher.shape[2:]):
        raise SettingsError(
            f"layer `{layer}` gives {tuple(student.shape)} in the student and {tuple(teacher.shape)} in the teacher: all but "
            "the channels must be equal"
        )
    x, y = (one.movedim(1, -1).flatten(0, -2).double() for one in (student, teacher))
    return Moments(x.T @ x, x.T @ y, y.sum(dim=0), y.square().sum(dim=0), len(x))
