"""Outputs of layers while a network runs, and which layers of two networks belong together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork
from amc_plugins.plugin import SettingsError, nearest

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["Taps", "feature_channels", "matched"]


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


def feature_channels(network: nn.Module, layers: Sequence[str], inputs: tuple[Any, ...]) -> dict[str, int]:
    """Channels of what layers give, (N, C, ...), from one pass.

    Raises:
        SettingsError: a layer gives something else than one tensor with channels.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with tapped(network, layers) as taps, torch.no_grad():
            network(*inputs)
            features = taps.take()
    finally:
        for module, training in modes:
            module.training = training
    for name in layers:
        if not isinstance(features.get(name), Tensor) or features[name].dim() < 2:
            raise SettingsError(f"layer `{name}` gives no tensor with channels to learn from")
    return {name: features[name].shape[1] for name in layers}
