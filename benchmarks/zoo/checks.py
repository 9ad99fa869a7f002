"""What is asked of one model, stage by stage. Each stage returns what goes into the model's record, or raises."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import amc_plugins as amc
from amc_plugins.compression import ShrinkCost
from amc_plugins.document import Document
from amc_plugins.graph import ChannelMap, ReconstructedNetwork, channel_map, describe, profile, rebuild, tensors_of
from amc_plugins.testing import assert_masked_equals_shrunk, masked_outputs, random_removal
from benchmarks.zoo.models import Entry, finish, seeded

__all__ = ["STAGES", "Refused", "Subject"]

Record = dict[str, Any]

LARGE = 100_000_000
"""Parameters above which removal is compared in float32."""
BUDGET = 0.5
SEED = 1


class Refused(Exception):  # noqa: N818 - an answer of the model, not an error
    """The model itself does not allow what was asked; the message says why."""


class Subject:
    """One model and what the stages made of it so far."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._made: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_made"][name]
        except KeyError:
            raise LookupError(f"needs `{name}`, which an earlier stage did not give") from None

    def give(self, **made: Any) -> None:
        self._made.update(made)

    def drop(self, *names: str) -> None:
        """Forget what later stages do not need: memory is short."""
        for name in names:
            self._made.pop(name, None)


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
        assert torch.equal(a, b), f"{what}: output {index} differs by {float((a - b).abs().max()):.1e}"


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its CPU seconds."""
    start = time.process_time()
    result = action()
    return result, time.process_time() - start


# --- stages ---


def build(subject: Subject) -> Record:
    """The model with random weights; its outputs are finite and depend on its input."""
    with seeded():
        model = finish(subject.entry.make())
    given = outputs(model, subject.entry.batch(2))
    assert all(bool(one.isfinite().all()) for one in given), "the model's outputs are not finite"
    assert any(not torch.equal(one[0], one[1]) for one in given), "the model's outputs do not depend on its inputs"
    parameters = sum(one.numel() for one in model.parameters())
    subject.give(model=model, parameters=parameters)
    return {"parameters": parameters}


def capture(subject: Subject) -> Record:
    """Recorded from one sample; equal bits on one and on two other samples, and so is the network rebuilt from its document."""
    model, entry = subject.model, subject.entry
    network, seconds = timed(lambda: amc.capture(model, *entry.batch(1)))
    opaque = [text for key, text in network.graph.metadata.items() if key.startswith("opaque:")]
    subject.give(network=network)
    again: ReconstructedNetwork | None = None
    if not opaque:
        again = rebuild(Document.from_json(describe(network).to_json()), tensors_of(network))
    for size in (1, 2):
        inputs = entry.batch(size, seed=size)
        expected = outputs(model, inputs)
        assert_equal(expected, outputs(network, inputs), f"batch {size}")
        if again is not None:
            assert_equal(expected, outputs(again, inputs), f"rebuilt from its document, batch {size}")
    return {
        "capture_seconds": seconds,
        "nodes": len(network.graph.nodes),
        "opaque": opaque,
        "control_flow": network.graph.metadata.get("control_flow"),
        "rebuilt": again is not None,
    }


def another_size(subject: Subject) -> Record:
    """Equal bits on another image size, where the original runs it."""
    inputs = subject.entry.batch(1, subject.entry.other)
    try:
        expected = outputs(subject.model, inputs)
    except Exception as error:
        raise Refused(f"the model itself refuses it: {last_line(error)}") from error
    assert_equal(expected, outputs(subject.network, inputs), f"size {subject.entry.other}")
    return {"size": subject.entry.other}


def groups(subject: Subject) -> Record:
    """Channel groups: how many, what is pinned, and the time beside an eager forward at the authors' image size."""
    subject.drop("model")
    network: ReconstructedNetwork = subject.network
    channel_map(network)  # torch imports what it needs for the meta device on first use
    channels, seconds = timed(lambda: channel_map(network))
    subject.give(channels=channels)
    pinned: Counter[str] = Counter()
    for group in channels.groups:
        for why in group.pinned:
            pinned[why] += len(group)
    return {
        "groups": len(channels.groups),
        "free": sum(not group.pinned for group in channels.groups),
        "pinned": dict(pinned.most_common(8)),
        "map_seconds": seconds,
    }


def prune(subject: Subject) -> Record:
    """Half of the MACs removed by channel groups, one share for all, channels at random; equal to the masked network."""
    network, channels = subject.network, subject.channels
    share, macs, whole = uniform_share(channels)
    removed = random_removal(channels, share=share, seed=SEED)
    large = subject.parameters > LARGE
    inputs = subject.entry.batch(2)
    if large:
        smaller = channels.shrink(removed)
        expected, given = masked_outputs(channels, removed, inputs), outputs(smaller, inputs)
        assert len(expected) == len(given) > 0
        for index, (a, b) in enumerate(zip(expected, given, strict=True)):
            difference = float((a - b).abs().max() / a.abs().max().clamp_min(1.0))
            assert difference < 1e-3, f"output {index}: masked and shrunk differ by {difference:.1e} in float32"
    else:
        smaller = assert_masked_equals_shrunk(network, *inputs, removed=removed).float()
    found = profile(smaller).total_macs
    assert found == macs, f"{found} MACs where {macs} were promised"
    subject.give(smaller=smaller)
    return {
        "share": share,
        "left": macs / whole,
        "macs": whole,
        "channels": [len(removed), sum(len(group) for group in channels.groups)],
        "dtype": "float32" if large else "float64",
    }


def uniform_share(channels: ChannelMap) -> tuple[float, int, int]:
    """The share of every free group that brings the MACs to the budget, the MACs then, and those of the whole network.

    Raises:
        Refused: no share does; names what pins the most channels.
    """
    cost = ShrinkCost(channels.network, channels)

    def macs(share: float) -> int:
        return cost.macs(
            {one.name: len(one) - min(round(share * len(one)), len(one) - 1) for one in channels.groups if not one.pinned}
        )

    whole = cost.macs({})
    if macs(1.0) > BUDGET * whole:
        pinned: Counter[str] = Counter()
        for group in channels.groups:
            for why in group.pinned:
                pinned[why] += len(group)
        reasons = "; ".join(f"{count} channels: {why}" for why, count in pinned.most_common(3))
        raise Refused(f"only {1 - macs(1.0) / whole:.0%} of the MACs can be removed ({reasons})")
    low, high, found = 0.0, 1.0, macs(1.0)
    share = 0.29  # a network of convolutions keeps (1 - share)^2
    while high - low > 2e-3 and found < 0.99 * BUDGET * whole:
        have = macs(share)
        low, high, found = (low, share, have) if have <= BUDGET * whole else (share, high, found)
        share = (low + high) / 2
    return high, macs(high), whole


def last_line(error: BaseException) -> str:
    """Type and first line of an error."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:400]


STAGES: dict[str, Callable[[Subject], Record]] = {
    "build": build,
    "capture": capture,
    "another_size": another_size,
    "groups": groups,
    "prune": prune,
}
