"""Checks of layer handlers, on the example calls of their declarations."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from amc_plugins.core.errors import AmcError
from amc_plugins.core.loading import import_target
from amc_plugins.core.registry import registry
from amc_plugins.core.specs import LayerHandlerSpec
from amc_plugins.graph import ReconstructedNetwork, ShrinkCost, capture, channel_map, profile, shapes, walk
from amc_plugins.handlers import LayerHandler
from amc_plugins.testing.checks import DoesNotApply, Subject, check
from amc_plugins.testing.oracle import assert_masked_equals_shrunk
from amc_plugins.testing.rebuilt import assert_rebuilds, assert_same_outputs
from amc_plugins.testing.scenes import made
from amc_plugins.testing.unchanged import assert_untouched, fingerprint, steady_random_states

__all__ = ["Under"]


@dataclass(frozen=True)
class Captured:
    """One example call, alone in a network; `inputs` are its tensors."""

    call: Any
    arguments: tuple[Any, ...]
    inputs: tuple[Tensor, ...]
    network: ReconstructedNetwork

    @property
    def open_batch(self) -> bool:
        specs = self.network.graph.inputs
        return bool(specs) and all(spec.shape and spec.shape[0] is None for spec in specs)

    def with_samples(self, count: int) -> tuple[Tensor, ...]:
        """The inputs with so many samples."""
        return tuple(one[[index % len(one) for index in range(count)]] for one in self.inputs)


class Under(Subject):
    """A layer handler with its example calls."""

    @property
    def op(self) -> str:
        assert isinstance(self.spec, LayerHandlerSpec)
        return self.spec.op

    @cached_property
    def handler(self) -> LayerHandler:
        assert isinstance(self.spec, LayerHandlerSpec)
        return registry().handler(self.spec)

    @cached_property
    def examples(self) -> list[tuple[Any, ...]]:
        """Tuples of a module or function and its inputs."""
        spec = self.spec
        assert isinstance(spec, LayerHandlerSpec)
        if spec.examples is not None:
            with torch.random.fork_rng(devices=[]):  # examples make modules, whose initialisation draws from it
                torch.manual_seed(0)
                return [tuple(one) for one in import_target(spec.examples)(self.name)]
        return list(_examples_by_default(spec.captures))

    @cached_property
    def captured(self) -> list[Captured]:
        if not self.examples:
            raise DoesNotApply("it has no example calls")
        return [self._captured(example) for example in self.examples]

    def _captured(self, example: tuple[Any, ...]) -> Captured:
        call, *arguments = example
        inputs = tuple(one for one in arguments if isinstance(one, Tensor))
        return Captured(call, tuple(arguments), inputs, capture(_Alone(call, arguments).eval(), *inputs))


class _Alone(nn.Module):
    """One call."""

    def __init__(self, call: Any, arguments: Sequence[Any]) -> None:
        super().__init__()
        self.call = call
        self.arguments = [None if isinstance(one, Tensor) else one for one in arguments]
        self.places = [index for index, one in enumerate(arguments) if isinstance(one, Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        return self.run(tensors)

    def run(self, tensors: Sequence[Tensor]) -> Any:
        arguments = list(self.arguments)
        for index, tensor in zip(self.places, tensors, strict=True):
            arguments[index] = tensor
        return self.call(*arguments)


class _Between(_Alone):
    """The call between layers that make its channels and layers that read them, each on axis 1 or on the last one."""

    def __init__(self, call: Any, arguments: Sequence[Any], inputs: Sequence[Tensor], axes: tuple[int, int]) -> None:
        super().__init__(call, arguments)
        self.before = nn.ModuleList(_layer(one, axes[0]) for one in inputs)
        with torch.no_grad():
            self.after = nn.ModuleList(_layer(one, axes[1]) for one in self.middle(inputs))

    def middle(self, tensors: Sequence[Tensor]) -> list[Any]:
        """What the call makes; entries that are true or false choose among those of an input, so that layers can read them."""
        given = [layer(one) for layer, one in zip(self.before, tensors, strict=True)]
        made = pytree.tree_leaves(self.run(given))
        return [
            given[0] * one if isinstance(one, Tensor) and one.dtype == torch.bool and one.shape == given[0].shape else one
            for one in made
        ]

    def forward(self, *tensors: Tensor) -> Any:
        return [layer(one) for layer, one in zip(self.after, self.middle(tensors), strict=True)]


class _Pass(nn.Module):
    """Nothing: for what has no channels."""

    def forward(self, x: Any) -> Any:
        return x


def _layer(x: Any, axis: int) -> nn.Module:
    """A 1 x 1 convolution or a linear layer, for what has channels; positive inputs stay positive, and about as large."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or not 2 <= x.dim() <= 5 or not x.shape[axis]:
        return _Pass()
    channels = x.shape[axis]
    if axis == 1 and x.dim() > 2:
        layer: nn.Module = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[x.dim() - 3](channels, channels, 1)
    else:
        layer = nn.Linear(channels, channels)
    for parameter in layer.parameters():
        parameter.data.abs_().add_(0.05 / channels)
    weight = layer.get_parameter("weight")
    weight.data.div_(weight.data.flatten(1).sum(1).reshape(-1, *[1] * (weight.dim() - 1)))
    return layer.to(x.dtype)


_SIZES = ((2, 8, 6, 6), (2, 8), (2, 6, 8), (2, 8, 8), (2, 8, 4, 4, 4))


def _examples_by_default(captures: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Module classes among the captures, with 8 for arguments without a default, on the first input that fits."""
    for dotted in captures:
        module, _, name = dotted.replace(":", ".").rpartition(".")
        try:
            found = import_target(f"{module}:{name}")
        except AmcError:
            continue
        if not isinstance(found, type) or not issubclass(found, nn.Module):
            continue
        needed = [
            one
            for one in list(inspect.signature(found.__init__).parameters.values())[1:]
            if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        for size in _SIZES:
            x = torch.randn(size, generator=torch.Generator().manual_seed(0))
            try:
                layer = made(partial(found, *[8] * len(needed))).eval()
                layer(x)
            except Exception:  # noqa: BLE001 - this is how one finds out what fits
                continue
            yield layer, x
            break


# --- the checks -----------------------------------------------------------------------------------------------------------


@check("layer_handlers")
def check_captures_exist(subject: Under) -> None:
    """Every captured name of an installed package is there: a misspelt one would never be captured, in silence."""
    assert isinstance(subject.spec, LayerHandlerSpec)
    assert subject.spec.captures, "it captures nothing"
    for dotted in subject.spec.captures:
        if find_spec(dotted.replace(":", ".").partition(".")[0]) is not None:
            assert _exists(dotted.replace(":", ".")), f"there is no `{dotted}`"


def _exists(dotted: str) -> bool:
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = import_target(f"{'.'.join(parts[:end])}:{parts[end]}")
        except AmcError:
            continue
        for name in parts[end + 1 :]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


@check("layer_handlers")
def check_examples_are_captured(subject: Under) -> None:
    """It has example calls, and each becomes a node of its op: the record computes what the call does, also for other samples.

    The calls are those of `examples` in the declaration, or else captured module classes made with their defaults.
    """
    assert isinstance(subject.spec, LayerHandlerSpec)
    if not subject.examples:
        if subject.spec.options:
            raise DoesNotApply("declared in one line, and its class is not made from defaults")
        raise AssertionError("it has no example calls: name a function that gives some as `examples` in its declaration")
    with steady_random_states("capturing an example"):
        _ = subject.captured
    for index, one in enumerate(subject.captured):
        ops = [node.op for node in one.network.graph.nodes]
        assert subject.op in ops, f"example {index} becomes {ops or 'nothing'}, not `{subject.op}`"
        assert "opaque" not in ops, f"a part of example {index} is opaque: {ops}"
        with torch.no_grad():
            expected = pytree.tree_leaves(_Alone(one.call, one.arguments).eval()(*(x.clone() for x in one.inputs)))
            given = pytree.tree_leaves(one.network(*(x.clone() for x in one.inputs)))
        for a, b in zip(expected, given, strict=True):
            same = _same(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else type(a) is type(b) and a == b
            assert same, f"the record of example {index} computes something else"


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


@check("layer_handlers")
def check_documents_round_trip(subject: Under) -> None:
    """`params` survive JSON and `build(params, tensors)` gives a module with the same tensors and the same outputs, bit for
    bit.
    """
    for one in subject.captured:
        assert_rebuilds(one.network, *one.inputs)
        for node in one.network.graph.nodes:
            if node.op != subject.op or node.symbols:
                continue
            module = one.network.layer(node.layer)
            params = subject.handler.params(module)
            again = subject.handler.Params(**params.model_dump(mode="json"))
            assert again == params, f"the parameters {params} do not survive JSON"
            tensors = subject.handler.tensors(module)
            built = subject.handler.build(again, tensors)
            assert subject.handler.params(built) == params, (
                f"the module built from {params} has {subject.handler.params(built)}"
            )
            for slot, tensor in subject.handler.tensors(built).items():
                assert torch.equal(tensor, tensors[slot]), f"the module that was built has another `{slot}`"
                assert tensor.data_ptr() != tensors[slot].data_ptr() or not tensor.numel(), f"`build` shares `{slot}`"


@check("layer_handlers")
def check_bad_tensors_are_refused(subject: Under) -> None:
    """`build` refuses tensors that are missing or of another shape, as an `AmcError` or a ValueError."""
    modules = [
        one.network.layer(node.layer) for one in subject.captured for node in one.network.graph.nodes if node.op == subject.op
    ]
    owners = [module for module in modules if subject.handler.tensors(module)]
    if not owners:
        raise DoesNotApply("the layers of its examples own no tensors")
    params, tensors = subject.handler.params(owners[0]), subject.handler.tensors(owners[0])
    slot = next(iter(tensors))
    less = {name: tensor for name, tensor in tensors.items() if name != slot}
    for what, given in (
        (f"no `{slot}`", less),
        (f"`{slot}` with one more axis", {**tensors, slot: tensors[slot][None]}),
        ("an unknown tensor", {**tensors, "no_such_tensor": torch.zeros(1)}),
    ):
        try:
            subject.handler.build(params, given)
        except (AmcError, ValueError):
            continue
        except Exception as error:
            raise AssertionError(f"`build` with {what} raises {type(error).__name__} ({error}), not an AmcError") from error
        raise AssertionError(f"`build` accepts {what}")


@check("layer_handlers")
def check_shapes_are_right(subject: Under) -> None:
    """`shapes` gives the shapes that the layer really makes, for the example and for another number of samples."""
    for index, one in enumerate(subject.captured):
        for inputs in [one.inputs, *([one.with_samples(5)] if one.open_batch else [])]:
            told = shapes(one.network, *inputs)
            for name, shape in _real_shapes(one.network, inputs).items():
                assert tuple(told[name]) == shape, f"example {index}: `shapes` says {tuple(told[name])}, it is {shape}"


def _real_shapes(network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    with torch.no_grad():
        for step in walk(network, inputs):
            for name, value in zip(step.node.outputs, step.outputs, strict=True):
                if isinstance(value, Tensor):
                    found[name] = tuple(value.shape)
    return found


@check("layer_handlers")
def check_macs_are_sound(subject: Under) -> None:
    """`macs` is None or a number that grows with the number of samples as it should: twice the samples, twice the MACs."""
    for index, one in enumerate(subject.captured):
        for count in (2, 4) if one.open_batch else (len(one.inputs[0]) if one.inputs and one.inputs[0].dim() else 1,):
            inputs = one.with_samples(count) if one.open_batch else one.inputs
            for row in profile(one.network, *inputs).rows:
                assert row.macs is None or (isinstance(row.macs, int) and row.macs >= 0), (
                    f"example {index}: MACs are {row.macs!r}"
                )
        if one.open_batch:
            two, four = (profile(one.network, *one.with_samples(count)).total_macs for count in (2, 4))
            assert four == 2 * two, f"example {index}: {two} MACs for two samples, {four} for four"


@check("layer_handlers")
def check_masked_equals_shrunk(subject: Under) -> None:
    """Channels that it lets go can go: between layers that make and read its channels, on axis 1 and on the last axis, the
    network with half of the channels removed computes what the whole one does with zeros in their place, and costs what is
    predicted.
    """
    for index, one in enumerate(subject.captured):
        if not any(node.op == subject.op for node in one.network.graph.nodes):
            continue
        removed = False
        for axes in ((1, 1), (-1, -1), (1, -1), (-1, 1)):
            if removed and axes[0] != axes[1]:  # channels that change their axis: for those that nothing else has shown
                continue
            found = _between(one, axes)
            if found is None:
                continue
            network, inputs = found
            if "opaque" in (ops := [node.op for node in network.graph.nodes]):
                raise DoesNotApply(f"the layers around it cannot be captured here: {ops}")
            try:
                removed |= _check_removal(network, inputs)
            except AssertionError as error:
                raise AssertionError(f"example {index}, channels on axis {axes[0]} and then {axes[1]}: {error}") from error


def _between(one: Captured, axes: tuple[int, int]) -> tuple[ReconstructedNetwork, list[Tensor]] | None:
    """The call between other layers, and positive inputs; None where the call does not take what these give."""
    inputs = [x.abs() + 0.1 if x.is_floating_point() else x for x in one.inputs]
    try:
        model = made(lambda: _Between(one.call, one.arguments, inputs, axes)).eval()
    except (RuntimeError, ValueError, TypeError):
        return None
    return capture(model, *inputs), inputs


def _check_removal(network: ReconstructedNetwork, inputs: Sequence[Tensor]) -> bool:
    """Remove half of every group that can go; whether there was one."""
    channels = channel_map(network)
    groups = [group for group in channels.groups if not group.pinned and len(group) > 1]
    if not groups:
        return False
    before = fingerprint(network)
    kept = {group.name: (len(group) + 1) // 2 for group in groups}
    removed = torch.cat([group.ids[kept[group.name] :] for group in groups])
    smaller = channels.shrink(removed)
    assert_untouched(network, before, "the network, by `keep`,")
    told, real = ShrinkCost(network, channels).macs(kept), profile(smaller).total_macs
    assert told == real, f"{told} MACs are predicted for the smaller network, it has {real}"
    assert_masked_equals_shrunk(network, *inputs)
    assert_rebuilds(smaller, *inputs)
    return True


@check("layer_handlers")
def check_inputs_are_left_alone(subject: Under) -> None:
    """The layer changes no input in place, capturing changes nothing of the user's module, and no tensor of it is shared."""
    for index, one in enumerate(subject.captured):
        own = one.call if isinstance(one.call, nn.Module) else None
        before, data = fingerprint(own), fingerprint(list(one.inputs))
        with torch.no_grad():
            one.network(*one.inputs)
        assert_untouched(list(one.inputs), data, f"the input of example {index}")
        if own is not None:
            again = subject._captured((own, *one.arguments)).network
            assert_untouched(own, before, f"the module of example {index}")
            theirs = {tensor.data_ptr() for tensor in own.state_dict().values() if tensor.numel()}
            shared = [name for name, tensor in again.state_dict().items() if tensor.data_ptr() in theirs]
            assert not shared, f"example {index}: `{shared[0]}` is shared with the user's module"


@check("layer_handlers")
def check_layers_survive_pickle(subject: Under) -> None:
    """The layer goes through pickle and deepcopy, as plans, workers and copies of networks need, and gives the same bits."""
    for one in subject.captured:
        assert_same_outputs(one.network, pickle.loads(pickle.dumps(one.network)), *one.inputs)
        assert_same_outputs(one.network, one.network.clone(), *one.inputs)
