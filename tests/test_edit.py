"""Graph editing: what is put in place runs, and what does not fit is refused with the graph's words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from amc_plugins.core.errors import GraphError
from amc_plugins.graph import (
    ReconstructedNetwork,
    capture,
    consumers,
    insert_after,
    insert_before,
    make_layer,
    producer,
    remove,
    replace,
    set_layer,
)
from amc_plugins.testing import assert_rebuilds, assert_same_outputs
from tests.networks import SmallResNet, randomized

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> ReconstructedNetwork:
    return capture(randomized(SmallResNet()), X)


def conv(weight: Tensor, **params: object) -> nn.Module:
    """A convolution made through its handler, as a compressor does it."""
    n, c, kh, kw = weight.shape
    shape = {"in_channels": c, "out_channels": n, "kernel_size": [kh, kw], "bias": False}
    return make_layer("vn.conv2d", {**shape, **params}, {"weight": weight})


def test_a_chain_takes_a_layers_place(network: ReconstructedNetwork) -> None:
    original = network.clone()
    weight = network.layer("layer1.0.conv1").weight.detach()
    identity = torch.eye(8).reshape(8, 8, 1, 1)
    chain = [("vn.conv2d", conv(weight, padding=[1, 1])), ("vn.conv2d", conv(identity))]
    assert replace(network, "layer1.0.conv1", chain) == ["layer1.0.conv1.0", "layer1.0.conv1.1"]
    first, second = network.node("layer1.0.conv1.0"), network.node("layer1.0.conv1.1")
    assert first.origin == second.origin == "layer1.0.conv1" and first.source == original.node("layer1.0.conv1").source
    torch.testing.assert_close(network(X), original(X))
    assert_rebuilds(network, X)


def test_a_replacement_of_another_shape_is_refused(network: ReconstructedNetwork) -> None:
    with pytest.raises(GraphError, match=r"makes `layer1.0.conv1` of shape \(1, 5, 8, 8\), the layer made"):
        replace(network, "layer1.0.conv1", [("vn.conv2d", conv(torch.rand(5, 8, 3, 3), padding=[1, 1]))])


def test_layers_called_twice_and_empty_chains_are_refused(network: ReconstructedNetwork) -> None:
    with pytest.raises(GraphError, match="one call, one input"):
        replace(network, "layer1.0.relu", [("vn.relu", nn.ReLU())])
    with pytest.raises(GraphError, match="use `remove`"):
        replace(network, "stem", [])


def test_insert_before_changes_one_reader_only(network: ReconstructedNetwork) -> None:
    original = network.clone()
    doubled = conv(2 * torch.eye(8).reshape(8, 8, 1, 1))
    insert_before(network, "layer1.0.conv1", 0, "vn.conv2d", doubled, "double")
    assert network.node("layer1.0.conv1").inputs == ["double"]
    assert network.node("layer1.0.add_0").inputs == original.node("layer1.0.add_0").inputs
    original.layer("layer1.0.conv1").weight.data *= 2
    torch.testing.assert_close(network(X), original(X))


def test_insert_after_changes_every_reader_and_the_outputs(network: ReconstructedNetwork) -> None:
    original = network.clone()
    insert_after(network, "fc", "vn.relu", nn.ReLU(), "final")
    assert torch.equal(network(X), original(X).relu())
    insert_after(network, "relu_0", "vn.relu", nn.ReLU(), "again")
    assert [node.name for node in consumers(network, "again")] == ["layer1.0.conv1", "layer1.0.add_0"]
    assert torch.equal(network(X), original(X).relu())


def test_remove_joins_the_ends(network: ReconstructedNetwork) -> None:
    original = network.clone()
    insert_after(network, "relu_0", "vn.relu", nn.ReLU(), "again")
    remove(network, "again")
    assert_same_outputs(network, original, X)
    with pytest.raises(GraphError, match="one input and one output"):
        remove(network, "layer1.0.add_0")


def test_set_layer_keeps_the_document_true(network: ReconstructedNetwork) -> None:
    set_layer(network, "layer1.0.conv1", conv(torch.rand(8, 8, 1, 1)))
    assert network.node("layer1.0.conv1").params["kernel_size"] == [1, 1]
    assert_rebuilds(network, X)


def test_layers_are_laid_out_as_files_hold_them(network: ReconstructedNetwork) -> None:
    weight = torch.rand(16, 10).T
    assert not weight.is_contiguous()
    params = {"in_features": 16, "out_features": 10, "bias": False}
    layer = make_layer("vn.linear", params, {"weight": weight})
    layer.weight.data = weight
    set_layer(network, "fc", layer)
    assert network.layer("fc").weight.is_contiguous()
    assert_rebuilds(network, X)


def test_producers_and_consumers(network: ReconstructedNetwork) -> None:
    found = producer(network, "relu_0")
    assert found is not None and found.name == "relu_0"
    assert producer(network, "x") is None
    assert [node.name for node in consumers(network, "x")] == ["stem"]


def test_a_name_that_is_taken_is_refused(network: ReconstructedNetwork) -> None:
    with pytest.raises(GraphError, match="there is a layer `stem` already"):
        insert_after(network, "relu_0", "vn.relu", nn.ReLU(), "stem")
    with pytest.raises(GraphError, match="1 inputs, asked was input 3"):
        insert_before(network, "fc", 3, "vn.relu", nn.ReLU(), "other")
