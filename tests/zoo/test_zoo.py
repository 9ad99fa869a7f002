"""Every network of the zoo: captured bit by bit, rebuilt from its document, grouped, priced, halved by removing channels."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import re
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import tests.zoo
from amc_plugins.core.shapes import run_shapes
from amc_plugins.core.structure import tensors_in
from amc_plugins.graph import ChannelMap, ReconstructedNetwork, ShrinkCost, capture, channel_map, profile, shapes
from amc_plugins.testing import assert_masked_equals_shrunk, assert_rebuilds, random_removal

NETWORKS = sorted(
    found.name for found in pkgutil.iter_modules(tests.zoo.__path__) if found.name != "common" and "test" not in found.name
)
OUTPUT = "an output of the network"


class Expected(NamedTuple):
    """Of one network: groups that must stay whole (pattern of names: part of a reason), and ops without a handler."""

    pinned: dict[str, str] = {}
    opaque: tuple[str, ...] = ()


NORMALISED = "normalises over channels"
EXPECTED: dict[str, Expected] = {
    "cbam": Expected(
        {
            r"stem\.0(#1)?": "vn.max runs over them",  # the spatial gate looks at the largest and at the mean of all channels
            r"spatial\.gate\.spatial\.0": "vn.mul spreads one channel over several",
            r"down\.0": "vn.conv1d takes windows over them",  # ECA's gate of a channel depends on its neighbours
        }
    ),
    "convnext": Expected(
        {
            r"stem\.0(#1)?|downs\.\d\.1(#1)?": NORMALISED,
            r"stages\.1\.1\.pwconv1(#1)?": "vn.mean averages over them",  # the response norm of V2
        }
    ),
    "espcn": Expected({"conv3": "an input of the network"}),  # the global skip adds the image to its output
    "mixer": Expected({"stem": NORMALISED}),
    "swin": Expected({r"patches|merge\.reduction": NORMALISED}),
    "vit": Expected({"patch_embed": NORMALISED}),
    "vit_mha": Expected({"conv_proj": NORMALISED}),
}


class Case(NamedTuple):
    zoo: ModuleType
    model: nn.Module
    network: ReconstructedNetwork
    channels: ChannelMap


@cache
def case(name: str) -> Case:
    zoo = importlib.import_module(f"tests.zoo.{name}")
    model = zoo.build()
    network = capture(model, *zoo.inputs(2))
    return Case(zoo, model, network, channel_map(network))


def opaque(network: ReconstructedNetwork) -> list[str]:
    """`op at file:line: why` of each opaque node."""
    return [network.graph.metadata[f"opaque:{node.layer}"] for node in network.graph.nodes if node.op == "opaque"]


def assert_same(model: nn.Module, network: nn.Module, inputs: tuple[Any, ...]) -> None:
    with torch.no_grad():
        expected, given = model(*inputs), network(*inputs)
    assert type(given) in (type(expected), dict, tuple), "the structure of the outputs is kept"
    theirs, mine = tensors_in(expected), tensors_in(given)
    assert len(theirs) == len(mine) > 0
    for index, (a, b) in enumerate(zip(theirs, mine, strict=True)):
        assert a.isfinite().all() and float(a.abs().max()) > 0.0
        assert torch.equal(a, b), f"output {index} differs by {float((a - b).abs().max()):.2e}"


def test_the_zoo_is_whole() -> None:
    assert len(NETWORKS) >= 24
    assert set(EXPECTED) <= set(NETWORKS)
    named = "shufflenet_v2 swin unet yolo espcn densenet inception senet two_inputs dict_output control_flow"
    assert set(named.split()) <= set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_captured_bit_by_bit(name: str) -> None:
    zoo, model, network, _ = case(name)
    assert not network.training
    for batch in (1, 3):
        assert_same(model, network, zoo.inputs(batch))
    if zoo.OTHER_SIZE is not None:
        assert_same(model, network, zoo.inputs(2, zoo.OTHER_SIZE))
    else:
        with pytest.raises(RuntimeError):  # the original refuses it as well
            model(*zoo.inputs(2, 40))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_has_no_handler_is_known(name: str) -> None:
    found = opaque(case(name).network)
    expected = EXPECTED.get(name, Expected()).opaque
    assert {re.match(r"`([\w.]+)`", one).group(1) for one in found} == set(expected)  # type: ignore[union-attr]
    assert all(re.search(rf"at {name}\.py:\d+", one) for one in found)


@pytest.mark.parametrize("name", NETWORKS)
def test_survives_its_document(name: str) -> None:
    zoo, model, network, _ = case(name)
    if opaque(network):
        again: nn.Module = pickle.loads(pickle.dumps(network))
    else:
        again = assert_rebuilds(network, *zoo.inputs(2))
    assert_same(model, again, zoo.inputs(3))


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_and_pins(name: str) -> None:
    channels = case(name).channels
    expected = EXPECTED.get(name, Expected()).pinned
    assert any(not group.pinned for group in channels.groups), "nothing can be removed"
    matched = set()
    for group in channels.groups:
        assert len(group) and group.producers
        reasons = [why for why in group.pinned if why != OUTPUT]
        if not reasons:
            continue
        patterns = [pattern for pattern in expected if re.fullmatch(pattern, group.name)]
        assert patterns, f"`{group.name}` is pinned unexpectedly: {group.pinned}"
        matched.update(patterns)
        for pattern in patterns:
            assert any(expected[pattern] in why for why in reasons), f"`{group.name}` is pinned for other reasons: {reasons}"
        assert all(re.search(rf"\S at {name}\.py:\d+", why) for why in reasons if "an input" not in why), reasons
    assert matched == set(expected), "a group that was expected to stay whole can be removed"


def halved(channels: ChannelMap, seed: int) -> tuple[Tensor, int]:
    """A random removal that leaves about half of the MACs, and what it should leave."""
    cost = ShrinkCost(channels.network, channels)
    whole = cost.macs({})
    for step in range(2, 20):
        removed = random_removal(channels, share=0.05 * step, seed=seed)
        gone = torch.zeros(len(channels._group_index), dtype=torch.bool)
        gone[removed] = True
        kept = {group.name: len(group) - int(gone[group.ids].sum()) for group in channels.groups if not group.pinned}
        macs = cost.macs(kept)
        if macs <= 0.52 * whole:
            return removed, macs
    raise AssertionError(f"only {1 - macs / whole:.0%} of the MACs can be removed")


@pytest.mark.parametrize("name", NETWORKS)
def test_half_of_it_equals_the_masked_network(name: str) -> None:
    zoo, _, network, channels = case(name)
    removed, macs = halved(channels, seed=1)
    smaller = assert_masked_equals_shrunk(network, *zoo.inputs(3), removed=removed)  # the channel map is made for two samples
    assert 0.3 * profile(network).total_macs < profile(smaller).total_macs == macs
    if not opaque(network):
        assert_rebuilds(smaller.float(), *zoo.inputs(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_half_of_torchs_flops(name: str) -> None:
    zoo, model, network, _ = case(name)
    inputs = zoo.inputs(2)
    # torch counts no fused attention on CPUs, so the plain one runs
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(*inputs)
    assert shapes(network, *inputs) == run_shapes(network, *inputs)
    found = profile(network, *inputs)
    unknown = sum(row.macs is None for row in found.rows)
    assert unknown == len(opaque(network))
    assert 2 * found.total_macs == counter.get_total_flops()
