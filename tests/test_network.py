"""A reconstructed network is an ordinary module."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from amc_plugins.core.errors import DocumentError, GraphError
from amc_plugins.core.network import ReconstructedNetwork, layer_key
from amc_plugins.graph import capture, describe, document_and_tensors, rebuild, tensors_of, walk
from amc_plugins.testing import assert_rebuilds
from tests.networks import Gated, ShuffleUnit, SkipNet, SmallResNet, TwoInputs, randomized

NETWORKS = [
    (SmallResNet(), (2, 3, 16, 16)),
    (ShuffleUnit(), (2, 3, 6, 6)),
    (Gated(), (2, 3, 8, 8)),
    (SkipNet(), (2, 3, 20, 16)),
]


@pytest.fixture(params=NETWORKS, ids=lambda pair: type(pair[0]).__name__)
def pair(request: pytest.FixtureRequest) -> tuple[ReconstructedNetwork, torch.Tensor]:
    model, shape = request.param
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    return capture(randomized(model), x), x


def test_copies_and_pickles_give_the_same_bits(pair: tuple[ReconstructedNetwork, torch.Tensor]) -> None:
    network, x = pair
    expected = network(x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), network.clone()):
        assert torch.equal(other(x), expected)
        assert describe(other).to_json() == describe(network).to_json()


def test_the_document_and_tensors_rebuild_it(pair: tuple[ReconstructedNetwork, torch.Tensor]) -> None:
    network, x = pair
    assert_rebuilds(network, x)


def test_fx_export_and_compile_take_it(pair: tuple[ReconstructedNetwork, torch.Tensor]) -> None:
    network, x = pair
    expected = network(x)
    assert torch.equal(torch.fx.symbolic_trace(network)(x), expected)
    program = torch.export.export(network, (x,), dynamic_shapes={"inputs": ({0: torch.export.Dim("batch", min=2)},)})
    bigger = torch.cat([x, x, x])
    torch.testing.assert_close(program.module()(bigger), network(bigger))
    torch.testing.assert_close(torch.compile(network, backend="eager")(x), expected)


def test_it_trains_and_its_state_loads_back() -> None:
    network = capture(SmallResNet(), torch.rand(2, 3, 8, 8)).train()
    fresh = copy.deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.rand(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    x = torch.rand(2, 3, 8, 8)
    assert not torch.equal(network.eval()(x), fresh.eval()(x))
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(network(x), fresh(x))


def test_dtype_moves_with_it() -> None:
    network = capture(randomized(SmallResNet()), torch.rand(1, 3, 8, 8)).double()
    assert network(torch.rand(2, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
    assert describe(network).inputs[0].dtype == "f64"


def test_walking_gives_every_value_and_allows_changes() -> None:
    network = capture(randomized(SmallResNet()), torch.rand(1, 3, 8, 8))
    x = torch.rand(2, 3, 8, 8)
    *_, last = walk(network, [x])
    assert torch.equal(last.outputs[0], network(x))
    for step in walk(network, [x]):
        if step.node.name == "fc":
            assert torch.equal(step.outputs[0], torch.full_like(step.outputs[0], 0.0)) is False
        step.outputs = [torch.zeros_like(one) if isinstance(one, torch.Tensor) else one for one in step.outputs]
        final = step
    assert torch.equal(final.outputs[0], torch.zeros(2, 10))


def test_unknown_names_are_refused_with_the_nearest() -> None:
    network = capture(SmallResNet().eval(), torch.rand(1, 3, 8, 8))
    with pytest.raises(GraphError, match=r"did you mean .*`layer1.0.conv1`"):
        network.layer("layer1.0.conv")
    with pytest.raises(GraphError):
        network.nodes_of("nothing")
    with pytest.raises(TypeError, match="takes 1 inputs"):
        network(torch.rand(1), torch.rand(1))


def test_several_inputs_run_by_position() -> None:
    model = TwoInputs().eval()
    network = capture(model, torch.rand(2, 3, 4, 4), torch.rand(2, 2, 4, 4))
    assert list(network.input_nodes) == ["a", "b"]
    assert list(network.layer_nodes) == [node.name for node in network.graph.nodes]
    assert_rebuilds(network, torch.rand(1, 3, 4, 4), torch.rand(1, 2, 4, 4))


def test_keys_are_injective_and_never_shadow_the_module_dict() -> None:
    names = ["a.b", "a/b", "a//b", "a.b.c", "a", "keys", "pop", "forward", "type", "layer1.0.conv1", "items."]
    keys = [layer_key(name) for name in names]
    assert len(set(keys)) == len(names)
    holder = nn.ModuleDict()
    for key in keys:
        holder[key] = nn.Identity()
    assert len(holder) == len(names)


def test_the_document_comes_with_its_tensors(pair: tuple[ReconstructedNetwork, torch.Tensor]) -> None:
    network, _ = pair
    document, tensors = document_and_tensors(network)
    assert document.to_json() == describe(network).to_json()
    assert [(spec.name, spec.shape) for spec in document.tensors] == [(name, [*one.shape]) for name, one in tensors.items()]
    assert {name: one.data_ptr() for name, one in tensors.items()} == {
        name: one.data_ptr() for name, one in tensors_of(network).items()
    }
    for node in document.nodes:
        for slot, name in node.tensors.items():
            assert tensors[name].data_ptr() == network.layer(node.layer).state_dict()[slot].data_ptr()


def test_missing_tensors_and_future_versions_are_refused() -> None:
    network = capture(SmallResNet().eval(), torch.rand(1, 3, 8, 8))
    document, tensors = describe(network), tensors_of(network)
    with pytest.raises(DocumentError, match="`fc/weight` is missing"):
        rebuild(document, {name: tensor for name, tensor in tensors.items() if name != "fc/weight"})
    document.nodes[0].op_version = 99
    with pytest.raises(DocumentError, match="version 99"):
        rebuild(document, tensors)
