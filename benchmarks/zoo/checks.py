"""Capture, channel groups and removal of one model, stage by stage. Each stage returns what goes into the model's record, or
raises.
"""

from __future__ import annotations

import math
from collections import Counter

import torch

from amc_plugins import AmcError
from amc_plugins.compression import ShrinkCost
from amc_plugins.document import Document
from amc_plugins.graph import ChannelMap, ReconstructedNetwork, channel_map, describe, profile, rebuild, tensors_of
from amc_plugins.testing import assert_masked_equals_shrunk, masked_outputs, random_removal
from benchmarks.zoo.subject import (
    LARGE,
    Record,
    Refused,
    Stage,
    Subject,
    assert_close,
    assert_equal,
    last_line,
    outputs,
    timed,
)

__all__ = ["STAGES"]

BUDGET = 0.5
SEED = 1
ROUNDS = 3
"""Of timings in turns; the least counts."""


def build(subject: Subject) -> Record:
    """The model with random weights; its outputs are finite and depend on its input."""
    given = outputs(subject.model, subject.entry.batch(2))
    assert all(bool(one.isfinite().all()) for one in given), "the model's outputs are not finite"
    assert any(not torch.equal(one[0], one[1]) for one in given), "the model's outputs do not depend on its inputs"
    return {"parameters": subject.parameters}


def capture(subject: Subject) -> Record:
    """Recorded from one sample; equal bits on one and on two other samples, and so is the network rebuilt from its document."""
    model, entry = subject.model, subject.entry
    network, seconds = timed(lambda: subject.network)
    opaque = [text for key, text in network.graph.metadata.items() if key.startswith("opaque:")]
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
    network, inputs = subject.network, subject.entry.batch(1, subject.entry.other)
    try:
        expected = outputs(subject.model, inputs)
    except Exception as error:
        raise Refused(f"the model itself refuses it: {last_line(error)}") from error
    try:
        given = outputs(network, inputs)
    except AmcError as error:
        raise Refused(last_line(error)) from error
    assert_equal(expected, given, f"size {subject.entry.other}")
    return {"size": subject.entry.other}


def groups(subject: Subject) -> Record:
    """Channel groups: how many, what is pinned, and the time of finding them beside that of the model's forward."""
    network, model, inputs = subject.network, subject.model, subject.entry.batch(1)
    channel_map(network)  # torch imports what it needs for the meta device on first use
    seconds = forward = math.inf
    for _ in range(ROUNDS):
        forward = min(forward, timed(lambda: outputs(model, inputs))[1])
        seconds = min(seconds, timed(lambda: channel_map(network))[1])
    channels = subject.channels
    native = forward
    if subject.entry.native != subject.entry.shape:
        image = subject.entry.batch(1, subject.entry.native)
        native = min(timed(lambda: outputs(model, image))[1] for _ in range(ROUNDS - 1))
    if subject.parameters > LARGE:
        del model
        subject.drop("model")
    return {
        "groups": len(channels.groups),
        "free": sum(not group.pinned for group in channels.groups),
        "pinned": dict(pinned(channels).most_common(8)),
        "map_seconds": seconds,
        "forward_seconds": forward,
        "native_forward_seconds": native,
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
        assert_close(masked_outputs(channels, removed, inputs), outputs(smaller, inputs), 1e-3, "masked and shrunk")
    else:
        smaller = assert_masked_equals_shrunk(network, *inputs, removed=removed).float()
    found = profile(smaller).total_macs
    assert found == macs, f"{found} MACs where {macs} were promised"
    subject.drop("channels")
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
        reasons = "; ".join(f"{count} channels: {why}" for why, count in pinned(channels).most_common(3))
        raise Refused(f"only {1 - macs(1.0) / whole:.0%} of the MACs can be removed ({reasons})")
    low, high, found = 0.0, 1.0, macs(1.0)
    share = 0.29  # a network of convolutions keeps (1 - share)^2
    while high - low > 2e-3 and found < 0.99 * BUDGET * whole:
        have = macs(share)
        low, high, found = (low, share, have) if have <= BUDGET * whole else (share, high, found)
        share = (low + high) / 2
    return high, macs(high), whole


def pinned(channels: ChannelMap) -> Counter[str]:
    """Channels that cannot be removed, by reason."""
    found: Counter[str] = Counter()
    for group in channels.groups:
        for why in group.pinned:
            found[why] += len(group)
    return found


STAGES: dict[str, Stage] = {
    "build": build,
    "capture": capture,
    "another_size": another_size,
    "groups": groups,
    "prune": prune,
}
