"""One model of the zoo while it is checked, and what all checks share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.graph import ChannelMap, ReconstructedNetwork, channel_map
from benchmarks.zoo.models import Entry, finish, seeded

__all__ = [
    "LARGE",
    "Missing",
    "Record",
    "Refused",
    "Stage",
    "Subject",
    "assert_close",
    "assert_equal",
    "built",
    "last_line",
    "outputs",
    "timed",
]

Record = dict[str, Any]

LARGE = 100_000_000
"""Parameters above which networks that were changed are compared in float32, and what is not needed is dropped early."""


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """What was asked is not possible, and whoever says so says why: the model itself, or an `AmcError` of this project."""


class Missing(Exception):  # noqa: N818 - the error is the earlier one
    """A stage needs what an earlier one could not make."""


class Subject:
    """One model and what the stages made of it so far. What a stage asks for first is made then, once."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._made: dict[str, Any] = {}
        self._failed: dict[str, str] = {}

    @property
    def model(self) -> nn.Module:
        made: nn.Module = self._once("model", lambda: built(self.entry))
        return made

    @property
    def parameters(self) -> int:
        count: int = self._once("parameters", lambda: sum(one.numel() for one in self.model.parameters()))
        return count

    @property
    def network(self) -> ReconstructedNetwork:
        """The model as it is recorded from one sample."""
        made: ReconstructedNetwork = self._once("network", lambda: amc.capture(self.model, *self.entry.batch(1)))
        return made

    @property
    def channels(self) -> ChannelMap:
        made: ChannelMap = self._once("channels", lambda: channel_map(self.network))
        return made

    def drop(self, *names: str) -> None:
        """Forget what later stages can make again: memory is short."""
        for name in names:
            self._made.pop(name, None)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """Made on first use. The stage that asks for it first gets the error, later ones `Missing`."""
        if name in self._failed:
            raise Missing(f"there is no {name}: {self._failed[name]}")
        if name not in self._made:
            try:
                self._made[name] = make()
            except Missing:
                raise
            except Exception as error:
                self._failed[name] = last_line(error)
                raise
        return self._made[name]


Stage = Callable[[Subject], Record]


def built(entry: Entry) -> nn.Module:
    """The model with random weights, always the same."""
    with seeded():
        return finish(entry.make())


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors of nested outputs, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from tensors_in(item)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from tensors_in(item)


def outputs(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    with torch.no_grad():
        return list(tensors_in(network(*inputs)))


def assert_equal(expected: list[Tensor], given: list[Tensor], what: str) -> None:
    assert len(expected) == len(given) > 0, f"{what}: {len(given)} outputs instead of {len(expected)}"
    for index, (a, b) in enumerate(zip(expected, given, strict=True)):
        assert a.shape == b.shape, f"{what}: output {index} is {tuple(b.shape)} instead of {tuple(a.shape)}"
        assert torch.equal(a, b), f"{what}: output {index} differs by {float((a - b).abs().max()):.1e}"


def assert_close(expected: list[Tensor], given: list[Tensor], tolerance: float, what: str) -> float:
    """The largest difference, relative to an output's largest entry where that is above one."""
    assert len(expected) == len(given) > 0, f"{what}: {len(given)} outputs instead of {len(expected)}"
    worst = 0.0
    for index, (a, b) in enumerate(zip(expected, given, strict=True)):
        assert a.shape == b.shape, f"{what}: output {index} is {tuple(b.shape)} instead of {tuple(a.shape)}"
        difference = float((a - b).abs().max() / a.abs().max().clamp_min(1.0))
        assert difference <= tolerance, f"{what}: output {index} differs by {difference:.1e} ({a.dtype})"
        worst = max(worst, difference)
    return worst


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its CPU seconds: those of this thread, the only one that computes.

    With a limit of CPU time set, Linux counts the time of a process in ticks of several milliseconds.
    """
    start = time.thread_time()
    result = action()
    return result, time.thread_time() - start


def last_line(error: BaseException) -> str:
    """Type and first line of an error."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:400]
