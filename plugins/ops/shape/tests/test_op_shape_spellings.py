"""Every spelling becomes the right node, gives the same bits and survives its document; sizes stay computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import amc_op_shape
import pytest
import torch
from torch import Tensor, nn

from amc_plugins.graph import ReconstructedNetwork, capture, handler_for, make_layer, profile
from amc_plugins.testing import assert_rebuilds


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function = function
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.function(x) if self.layer is None else self.layer(x)


def image(batch: int = 2) -> Tensor:
    return torch.rand(batch, 6, 1, 4, generator=torch.Generator().manual_seed(0))


def flat(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def captured(model: nn.Module) -> ReconstructedNetwork:
    """Captured (which compares the bits, also on a second batch size), rebuilt from JSON, and traced."""
    network = capture(model, image(), strict=True)
    assert_rebuilds(network, image())
    traced = torch.fx.symbolic_trace(network)
    for one, other in zip(flat(traced(image())), flat(network(image())), strict=True):
        assert torch.equal(one, other)
    return network


def written(x: Tensor, index: Any, value: Any) -> Tensor:
    y = x.clone()
    y[index] = value
    return y


def only(network: ReconstructedNetwork) -> tuple[str, dict[str, Any]]:
    (node,) = [node for node in network.graph.nodes if node.op not in ("vn.identity", "vn.size", "vn.int", "vn.require")]
    return node.op, node.params


@pytest.mark.parametrize(
    ("function", "op", "params"),
    [
        (lambda x: torch.cat([x, x]), "vn.cat", {"dim": 0}),
        (lambda x: torch.cat((x, x), 1), "vn.cat", {"dim": 1}),
        (lambda x: torch.cat(tensors=[x, x, x], dim=-1), "vn.cat", {"dim": -1}),
        (lambda x: torch.concat([x, x], dim=1), "vn.cat", {"dim": 1}),
        (lambda x: torch.concatenate([x, x], axis=1), "vn.cat", {"dim": 1}),
        (lambda x: torch.stack([x, x]), "vn.stack", {"dim": 0}),
        (lambda x: torch.stack([x, x], dim=2), "vn.stack", {"dim": 2}),
        (lambda x: x.view(-1, 24), "vn.reshape", {"shape": [-1, 24]}),
        (lambda x: x.view((-1, 3, 8)), "vn.reshape", {"shape": [-1, 3, 8]}),
        (lambda x: x.view(size=(-1, 3, 8)), "vn.reshape", {"shape": [-1, 3, 8]}),
        (lambda x: x.reshape(-1), "vn.reshape", {"shape": [-1]}),
        (lambda x: x.reshape(shape=[-1, 2, 12]), "vn.reshape", {"shape": [-1, 2, 12]}),
        (lambda x: torch.reshape(x, (-1, 24)), "vn.reshape", {"shape": [-1, 24]}),
        (lambda x: torch.reshape(input=x, shape=(-1, 24)), "vn.reshape", {"shape": [-1, 24]}),
        (lambda x: x.view_as(x), "vn.reshape", {"shape": None}),
        (lambda x: x.reshape_as(other=x), "vn.reshape", {"shape": None}),
        (lambda x: x.flatten(1), "vn.flatten", {"start_dim": 1, "end_dim": -1}),
        (lambda x: x.flatten(), "vn.flatten", {"start_dim": 0, "end_dim": -1}),
        (lambda x: torch.flatten(x, start_dim=2), "vn.flatten", {"start_dim": 2, "end_dim": -1}),
        (lambda x: torch.flatten(x, 1, 2), "vn.flatten", {"start_dim": 1, "end_dim": 2}),
        (lambda x: x.ravel(), "vn.flatten", {"start_dim": 0, "end_dim": -1}),
        (torch.ravel, "vn.flatten", {"start_dim": 0, "end_dim": -1}),
        (lambda x: x.unflatten(1, (2, 3)), "vn.unflatten", {"dim": 1, "sizes": [2, 3]}),
        (lambda x: torch.unflatten(x, dim=-1, sizes=(-1, 2)), "vn.unflatten", {"dim": -1, "sizes": [-1, 2]}),
        (lambda x: x.permute(0, 2, 3, 1), "vn.permute", {"dims": [0, 2, 3, 1]}),
        (lambda x: x.permute((0, -1, 1, 2)), "vn.permute", {"dims": [0, -1, 1, 2]}),
        (lambda x: x.permute(dims=(0, 2, 3, 1)), "vn.permute", {"dims": [0, 2, 3, 1]}),
        (lambda x: torch.permute(x, (0, 2, 3, 1)), "vn.permute", {"dims": [0, 2, 3, 1]}),
        (lambda x: x.transpose(1, -1), "vn.transpose", {"dim0": 1, "dim1": -1}),
        (lambda x: torch.transpose(x, dim0=1, dim1=2), "vn.transpose", {"dim0": 1, "dim1": 2}),
        (lambda x: x.clone().transpose_(1, 3), "vn.transpose", {"dim0": 1, "dim1": 3}),
        (lambda x: x.swapaxes(1, 2), "vn.transpose", {"dim0": 1, "dim1": 2}),
        (lambda x: torch.swapaxes(x, axis0=1, axis1=2), "vn.transpose", {"dim0": 1, "dim1": 2}),
        (lambda x: x.swapdims(1, 2), "vn.transpose", {"dim0": 1, "dim1": 2}),
        (lambda x: torch.swapdims(x, 1, 2), "vn.transpose", {"dim0": 1, "dim1": 2}),
        (lambda x: x.mT, "vn.transpose", {"dim0": -2, "dim1": -1}),
        (lambda x: x.squeeze(), "vn.squeeze", {"dim": None}),
        (lambda x: x.squeeze(2), "vn.squeeze", {"dim": [2]}),
        (lambda x: x.squeeze(1), "vn.squeeze", {"dim": [1]}),
        (lambda x: x.squeeze((1, 2)), "vn.squeeze", {"dim": [1, 2]}),
        (lambda x: torch.squeeze(x, dim=-2), "vn.squeeze", {"dim": [-2]}),
        (lambda x: torch.squeeze(input=x), "vn.squeeze", {"dim": None}),
        (lambda x: x.clone().squeeze_(2), "vn.squeeze", {"dim": [2]}),
        (lambda x: x.unsqueeze(-1), "vn.unsqueeze", {"dim": -1}),
        (lambda x: torch.unsqueeze(x, dim=1), "vn.unsqueeze", {"dim": 1}),
        (lambda x: x.clone().unsqueeze_(2), "vn.unsqueeze", {"dim": 2}),
        (lambda x: x.expand(-1, 6, 5, 4), "vn.expand", {"shape": [-1, 6, 5, 4]}),
        (lambda x: x.expand((3, -1, 6, 5, 4)), "vn.expand", {"shape": [3, -1, 6, 5, 4]}),
        (lambda x: x.broadcast_to((3, -1, 6, 5, 4)), "vn.expand", {"shape": [3, -1, 6, 5, 4]}),
        (lambda x: torch.broadcast_to(x, size=(3, -1, 6, 5, 4)), "vn.expand", {"shape": [3, -1, 6, 5, 4]}),
        (lambda x: x.expand(size=(-1, 6, 5, 4)), "vn.expand", {"shape": [-1, 6, 5, 4]}),
        (lambda x: x.expand_as(x), "vn.expand", {"shape": None}),
        (lambda x: x.chunk(2, 1), "vn.chunk", {"chunks": 2, "dim": 1, "sizes": None}),
        (lambda x: torch.chunk(x, chunks=4, dim=1), "vn.chunk", {"chunks": 4, "dim": 1, "sizes": None}),
        (lambda x: x.chunk(1, 1)[0], "vn.chunk", {"chunks": 1, "dim": 1, "sizes": None}),
        (lambda x: x.chunk(3, 2)[0], "vn.chunk", {"chunks": 1, "dim": 2, "sizes": None}),
        (lambda x: x.split(4, 1), "vn.split", {"sizes": 4, "dim": 1}),
        (lambda x: x.split([1, 2, 3], dim=1), "vn.split", {"sizes": [1, 2, 3], "dim": 1}),
        (lambda x: x.split(split_size=[6], dim=1)[0], "vn.split", {"sizes": [6], "dim": 1}),
        (lambda x: torch.split(x, (2, 4), 1), "vn.split", {"sizes": [2, 4], "dim": 1}),
        (lambda x: torch.split(x, split_size_or_sections=3, dim=-1), "vn.split", {"sizes": 3, "dim": -1}),
        (lambda x: torch.split_with_sizes(x, [2, 4], 1), "vn.split", {"sizes": [2, 4], "dim": 1}),
        (lambda x: x.split_with_sizes(split_sizes=[2, 4], dim=1), "vn.split", {"sizes": [2, 4], "dim": 1}),
        (lambda x: x[:, 1:], "vn.slice", {"index": [":", "#:"], "values": [1]}),
        (lambda x: x[:, :-1:2], "vn.slice", {"index": [":", ":#:#"], "values": [-1, 2]}),
        (lambda x: x[:, 2], "vn.slice", {"index": [":", "#"], "values": [2]}),
        (lambda x: x[:, -1, ..., None], "vn.slice", {"index": [":", "#", "...", "None"], "values": [-1]}),
        (lambda x: x[..., 1:3], "vn.slice", {"index": ["...", "#:#"], "values": [1, 3]}),
        (lambda x: x[0], "vn.slice", {"index": ["#"], "values": [0]}),
        (lambda x: x[None], "vn.slice", {"index": ["None"], "values": []}),
        (lambda x: x[:, ::3], "vn.slice", {"index": [":", "::#"], "values": [3]}),
        (lambda x: x[:, [4, 0, 0]], "vn.slice", {"index": [":", "[3]"], "values": [4, 0, 0]}),
        (lambda x: x[..., torch.tensor([-1, 2])], "vn.slice", {"index": ["...", "[2]"], "values": [-1, 2]}),
        (lambda x: x[:, torch.tensor([1, 0, 0, 1, 1, 0]) > 0], "vn.slice", {"index": [":", "[3]"], "values": [0, 3, 4]}),
        (lambda x: x[:, torch.tensor(3)], "vn.slice", {"index": [":", "#"], "values": [3]}),
        (lambda x: x[:, torch.tensor([[1, 2], [0, 5]])], "vn.slice", {"index": [":", "@"], "values": []}),
        (lambda x: x.index_select(1, torch.tensor([5, 1])), "vn.slice", {"index": [":", "[2]"], "values": [5, 1]}),
        (
            lambda x: torch.index_select(x, dim=-1, index=torch.tensor([1])),
            "vn.slice",
            {"index": ["...", "[1]"], "values": [1]},
        ),
        (lambda x: x.narrow(1, 2, 3), "vn.slice", {"index": [":", "#:#"], "values": [2, 5]}),
        (lambda x: torch.narrow(x, dim=-1, start=-2, length=2), "vn.slice", {"index": ["...", "#:"], "values": [-2]}),
        (lambda x: x.select(1, -1), "vn.slice", {"index": [":", "#"], "values": [-1]}),
        (lambda x: torch.select(x, dim=-2, index=0), "vn.slice", {"index": ["...", "#", ":"], "values": [0]}),
        (lambda x: x.movedim(1, -1), "vn.permute", {"dims": [0, 2, 3, 1]}),
        (lambda x: torch.movedim(x, (1, 2), (-1, 1)), "vn.permute", {"dims": [0, 2, 3, 1]}),
        (lambda x: torch.moveaxis(x, source=0, destination=1), "vn.permute", {"dims": [1, 0, 2, 3]}),
        (lambda x: x.unbind(1), "vn.unbind", {"dim": 1, "count": 6}),
        (lambda x: torch.unbind(x, dim=-2)[0], "vn.unbind", {"dim": -2, "count": 1}),
        (lambda x: x.split(6, 1)[0], "vn.split", {"sizes": [6], "dim": 1}),
        (lambda x: x.tensor_split(4, 1), "vn.split", {"sizes": [2, 2, 1, 1], "dim": 1}),
        (lambda x: torch.tensor_split(x, (1, 4), dim=1), "vn.split", {"sizes": [1, 3, 2], "dim": 1}),
        (lambda x: x.repeat(1, 2, 1, 3), "vn.repeat", {"repeats": [1, 2, 1, 3]}),
        (lambda x: x.repeat((2, 1, 1, 1, 1)), "vn.repeat", {"repeats": [2, 1, 1, 1, 1]}),
        (lambda x: x.tile(2, 1), "vn.repeat", {"repeats": [1, 1, 2, 1]}),
        (lambda x: torch.tile(x, dims=(3,)), "vn.repeat", {"repeats": [1, 1, 1, 3]}),
        (lambda x: x.repeat_interleave(2, dim=1), "vn.repeat_interleave", {"repeats": 2, "dim": 1}),
        (lambda x: torch.repeat_interleave(x, 3, 2), "vn.repeat_interleave", {"repeats": 3, "dim": 2}),
        (lambda x: x.roll(1, -1), "vn.roll", {"shifts": [1], "dims": [3]}),
        (lambda x: torch.roll(x, shifts=(-1, 2), dims=(1, 3)), "vn.roll", {"shifts": [-1, 2], "dims": [1, 3]}),
        (lambda x: x.flip(1, -1), "vn.flip", {"dims": [1, -1]}),
        (lambda x: torch.flip(x, dims=[2]), "vn.flip", {"dims": [2]}),
        (lambda x: x.fliplr(), "vn.flip", {"dims": [1]}),
        (lambda x: x.unfold(1, 3, 2), "vn.windows", {"dim": 1, "size": 3, "step": 2}),
    ],
)
def test_functions(function: Callable[[Tensor], Any], op: str, params: dict[str, Any]) -> None:
    network = captured(Net(function))
    assert only(network) == (op, params)
    assert profile(network).total_macs == 0


def test_transposed_matrices() -> None:
    for function in (
        lambda x: x.flatten(1).T,
        lambda x: x.flatten(1).t(),
        lambda x: torch.t(x.flatten(1)),
        lambda x: x.flatten(1).t_(),
    ):
        network = captured(Net(function))
        assert [(node.op, node.params) for node in network.graph.nodes][1] == ("vn.transpose", {"dim0": -2, "dim1": -1})


@pytest.mark.parametrize(
    ("index", "value", "params"),
    [
        (0, 0.5, {"index": ["#"], "values": [0], "number": 0.5}),
        ((slice(None), slice(1, 3)), -1, {"index": [":", "#:#"], "values": [1, 3], "number": -1}),
        ((Ellipsis, [0, 2]), True, {"index": ["...", "[2]"], "values": [0, 2], "number": True}),
        ((slice(None), torch.tensor([[1, 0]])), 2, {"index": [":", "@"], "number": 2}),
        ((slice(None), slice(2, 4)), torch.ones(2, 1, 4), {"index": [":", "#:#"], "number": None}),
    ],
)
def test_assignments(index: Any, value: Any, params: dict[str, Any]) -> None:
    network = captured(Net(lambda x: written(x, index, value)))
    (node,) = (node for node in network.graph.nodes if node.op == "vn.setitem")
    assert params.items() <= node.params.items()


@pytest.mark.parametrize(
    ("layer", "op"),
    [
        (nn.Flatten(), "vn.flatten"),
        (nn.Flatten(2, 3), "vn.flatten"),
        (nn.Unflatten(1, (2, 3)), "vn.unflatten"),
        (amc_op_shape.TensorReshape((-1, 24)), "vn.reshape"),
        (amc_op_shape.TensorTranspose((0, 2, 3, 1)), "vn.permute"),
        (amc_op_shape.TensorSqueeze(2), "vn.squeeze"),
        (amc_op_shape.TensorSqueeze(), "vn.squeeze"),
        (amc_op_shape.TensorUnsqueeze(1), "vn.unsqueeze"),
        (amc_op_shape.TensorSwapAxes(1, 3), "vn.transpose"),
        (amc_op_shape.TensorExpand((-1, -1, 3, -1)), "vn.expand"),
        (amc_op_shape.TensorSlice([":", "#:"], [2]), "vn.slice"),
        (amc_op_shape.TensorUnflatten(1, (3, 2)), "vn.unflatten"),
    ],
)
def test_modules(layer: nn.Module, op: str) -> None:
    network = captured(Net(lambda x: x, layer))
    (node,) = network.graph.nodes
    assert (node.op, node.layer) == (op, "layer")
    handler = handler_for(op)
    assert torch.equal(handler.build(handler.params(network.layer("layer")), {})(image()), layer(image()))


def test_modules_of_several_tensors_and_computed_sizes() -> None:
    class User(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cat = amc_op_shape.Concatenate(1)
            self.stack = amc_op_shape.Stack(1)
            self.reshape = amc_op_shape.TensorReshape()
            self.chunk = amc_op_shape.TensorChunk(2, 1)
            self.split = amc_op_shape.TensorSplit([2, 4], 1)

        def forward(self, x: Tensor) -> Tensor:
            halves = self.chunk(x)
            joined = self.cat(halves[1], halves[0], *self.split(x))
            return self.reshape(self.stack(joined, joined), shape=(x.shape[0], -1))

    network = captured(User())
    assert torch.equal(network(image(5)), User()(image(5)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(torch.int32).float(),
        lambda x: x.view(dtype=torch.int32).float(),
        lambda x: x[x > 0.5].sum(),
        lambda x: x[:, [0, 2], :, [1, 3]],
        lambda x: x[:, 0, :, [1, 3]],
        lambda x: x[True],
        lambda x: x.roll(3),
        lambda x: x.roll((1, 2), (1, 1)),
        lambda x: written(x, (slice(None), None), 1),
        lambda x: x.repeat_interleave(2),
        lambda x: x.repeat_interleave(torch.tensor([1, 2, 1, 2, 1, 2]), 1),
    ],
)
def test_variants_that_are_declined_still_run(function: Callable[[Tensor], Any]) -> None:
    network = capture(Net(function), image())
    assert "opaque" in [node.op for node in network.graph.nodes]
    assert torch.equal(network(image()), function(image()))


def test_sizes_stay_computed() -> None:
    def function(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        y = x.view(batch, channels // 2, 2, height * width).reshape(x.size(0), -1)
        parts = y.split([width, y.size(1) - width], 1)
        z = torch.cat([parts[1], parts[0]], 1).unflatten(1, (channels, width))
        return z[:, : channels // 3, width - 3 :].unsqueeze(1).expand(batch, width, -1, 3)

    network = captured(Net(function))
    wide = torch.rand(3, 6, 1, 8)
    assert torch.equal(network(wide), function(wide))
    assert torch.equal(assert_rebuilds(network, image())(wide), function(wide))


def test_export_and_dynamo() -> None:
    def function(x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        y = torch.cat([b, a[:, :2]], 1).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 5)
        return torch.stack([y.transpose(1, 2), y.transpose(1, 2)], 1).flatten(1).unsqueeze(1)

    network = captured(Net(function))
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(network, (image(),), dynamic_shapes=((({0: batch},)),))
    assert torch.equal(program.module()(image(5)), network(image(5)))
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    assert torch.equal(compiled(image()), network(image()))


def test_layers_made_by_op_id() -> None:
    x = image()
    assert torch.equal(make_layer("vn.permute", {"dims": [0, 2, 3, 1]}, {})(x), x.permute(0, 2, 3, 1))
    assert torch.equal(make_layer("vn.slice", {"index": ["...", "#:"], "values": [2]}, {})(x), x[..., 2:])
    pieces = make_layer("vn.chunk", {"chunks": 2, "dim": 1, "sizes": [1, 5]}, {})(x)
    assert [piece.shape[1] for piece in pieces] == [1, 5]
