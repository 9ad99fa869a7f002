"""Whether a record does what the original does: on the example, on other data in another batch size, on other image sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from amc_plugins.core.claims import Claims
from amc_plugins.core.document import Node, Ref, tree_leaves
from amc_plugins.core.errors import CaptureError, SizeError
from amc_plugins.core.intrinsics import REQUIRE, SIZE, Require, Size
from amc_plugins.core.network import ReconstructedNetwork, Step, layer_key, walk
from amc_plugins.core.recorder import Recorder, Recording
from amc_plugins.core.structure import map_leaves, tensors_in
from amc_plugins.handlers import Int

__all__ = ["verify"]

logger = logging.getLogger("amc_plugins.capture")

_OTHER_SIZES = ((17, 33), (32, 64))
"""What another image is larger by, in height and width: an odd size; where the original refuses it, one that most strides
divide.
"""


def verify(network: ReconstructedNetwork, model: nn.Module, recording: Recording) -> None:
    """Compare a record with its original, and leave out what it requires of sizes where trying shows that it does not matter.

    The same bits are needed on the example and, where the original runs it, on other data in another batch size; then the
    batch is open.

    Raises:
        CaptureError: they differ; names the first node that does.
    """
    first = recording.returned or tensors_in(model(*_copied(recording.inputs)))
    _compare(network, model, recording.inputs, first, "the example")
    _verify_batch(network, model, recording)
    _try_other_size(network, model, recording)


def _verify_batch(network: ReconstructedNetwork, model: nn.Module, recording: Recording) -> None:
    second = _another_batch(recording.inputs, change=True)
    if second is None:
        return
    try:
        expected = tensors_in(model(*_copied(second)))
    except Exception as error:  # noqa: BLE001 - the user's own network refuses another batch size: so will the record
        logger.info("the network does not run on another batch size (%s): its batch size stays fixed", error)
        return
    for spec in network.graph.inputs:
        if spec.shape:
            spec.shape[0] = None
    unmet = _unmet(network, _copied(second))
    _lift(network, unmet)  # whether they matter, the outputs tell
    try:
        _compare(network, model, second, expected, "a second batch size")
    except CaptureError as error:
        if unmet:
            raise CaptureError(
                f"the network does something else for another batch size: it was recorded with {unmet[0].described}",
                hint="compute with sizes as ints (//, %, math.ceil), without int(), float() or a branch on the batch size",
            ) from error
        if _same_path(model, recording, second):
            raise
        # other data took another way through the user's code: the record is of the example's, on which it must hold
        repeated = _another_batch(recording.inputs, change=False)
        _compare(network, model, repeated, tensors_in(model(*_copied(repeated))), "a second batch size")
        why = "control flow depends on the data: the record holds the way that the example took"
        network.graph.metadata["control_flow"] = why
        logger.warning("%s", why)


# --- what sizes must be ---


def _unmet(network: ReconstructedNetwork, inputs: Any) -> list[Require]:
    """What the network requires and inputs of these sizes do not meet."""
    found: list[Require] = []

    def run(step: Step) -> Any:
        try:
            return step.module(*step.inputs, **step.params)
        except SizeError:
            assert isinstance(step.module, Require)
            found.append(step.module)
            return 1

    if any(node.op == REQUIRE for node in network.graph.nodes):
        with suppress(RuntimeError, ValueError, TypeError, IndexError):  # what does not run is for the caller to find
            for _ in walk(network, inputs, run=run):
                pass
    return found


def _lift(network: ReconstructedNetwork, requirements: Sequence[Require]) -> None:
    """Take requirements out of a network."""
    gone = {node.layer for node in network.graph.nodes if network.layer(node.layer) in requirements}
    if gone:
        network.graph.nodes = [node for node in network.graph.nodes if node.layer not in gone]
        for layer in gone:
            del network.layers[layer_key(layer)]
        network.recompile()


def _try_other_size(network: ReconstructedNetwork, model: nn.Module, recording: Recording) -> None:
    """Run larger images. A comparison that comes out differently there, and the outputs are still the original's, needs not be
    required; and where they are not, although all that is required holds, the image size is.
    """
    for step in _OTHER_SIZES:
        inputs = _larger(recording.inputs, step)
        if inputs is None:
            return
        try:
            with _keeping_attributes(model):
                expected = tensors_in(model(*_copied(inputs)))
        except Exception as error:  # noqa: BLE001 - the user's own network refuses this size: so may the record
            logger.info("the network does not run on images that are %s larger: %s", step, error)
            continue
        unmet = {one.described for one in _unmet(network, _copied(inputs))}
        fixed = {network.layer(name).extra_repr() for name in recording.fixed_values if layer_key(name) in network.layers}
        if unmet & fixed:
            return
        without = network.clone() if unmet else network
        _lift(without, _described(without, unmet))
        if _gives(without, model, inputs, expected):
            _lift(network, _described(network, unmet))
        elif not unmet and "control_flow" not in network.graph.metadata:
            with _keeping_attributes(model):
                _require_size(network, *_first_difference(network, model, inputs))
        return


@contextmanager
def _keeping_attributes(model: nn.Module) -> Iterator[None]:
    """What the modules of the user remember of an image's size (a grid, a mask) is afterwards what it was."""
    before = [(one, dict(vars(one)), dict(one._buffers)) for one in model.modules()]
    try:
        yield
    finally:
        for one, attributes, buffers in before:
            vars(one).clear()
            vars(one).update(attributes)
            one._buffers.clear()
            one._buffers.update(buffers)


def _described(network: ReconstructedNetwork, descriptions: set[str]) -> list[Require]:
    return [one for one in network.modules() if isinstance(one, Require) and one.described in descriptions]


def _require_size(network: ReconstructedNetwork, where: str, why: str) -> None:
    """Hold a network to the image size of the example: other sizes are something else from `where` on."""
    logger.warning("the record holds for images of the example's size only: on larger ones %s", why)
    made: list[Node] = []
    for spec in network.graph.inputs:
        if len(spec.shape) < 4:
            continue
        for axis in (len(spec.shape) - 2, len(spec.shape) - 1):
            size, name = f"{spec.name}.image{axis}", f"{spec.name}.require_image{axis}"
            operands: list[Int] = [Ref(size), cast("int", spec.shape[axis])]
            network.layers[layer_key(size)] = Size(axis)
            network.layers[layer_key(name)] = Require("eq", operands, where)
            params = {"fn": "eq", "operands": operands, "where": where}
            made.append(Node(name=size, layer=size, op=SIZE, inputs=[spec.name], outputs=[size], params={"dim": axis}))
            made.append(Node(name=name, layer=name, op=REQUIRE, outputs=[name], params=params))
    network.graph.nodes = [*made, *network.graph.nodes]
    network.recompile()


def _larger(example: Any, step: tuple[int, int]) -> Any:
    """The example with larger images, itself side by side; None if there are none in it."""
    if not any(_is_image(tensor) for tensor in tensors_in(example)):
        return None

    def larger(tensor: Tensor) -> Tensor:
        size = [old + more for old, more in zip(tensor.shape[-2:], step, strict=True)]
        times = [-(-new // old) for new, old in zip(size, tensor.shape[-2:], strict=True)]
        return tensor.repeat(*[1] * (tensor.dim() - 2), *times)[..., : size[0], : size[1]]

    return map_leaves(example, lambda item: larger(item) if isinstance(item, Tensor) and _is_image(item) else item)


def _is_image(tensor: Tensor) -> bool:
    return tensor.dim() >= 4 and tensor.is_floating_point() and tensor.numel() > 0


# --- comparing ---


def _copied(inputs: Any) -> Any:
    return map_leaves(inputs, lambda item: item.clone() if isinstance(item, Tensor) else item)


def _another_batch(inputs: Any, change: bool) -> Any:
    """The example and its first sample again; None when the inputs do not share a batch axis.

    With `change` everything is mirrored and made smaller, so that a value taken from the example's data shows.
    """
    tensors = tensors_in(inputs)
    if any(tensor.dim() == 0 or not len(tensor) for tensor in tensors) or len({len(tensor) for tensor in tensors}) != 1:
        return None

    def changed(tensor: Tensor) -> Tensor:
        tensor = torch.cat([tensor, tensor[:1]])
        if not change:
            return tensor
        tensor = tensor.flip(-1) if tensor.dim() > 1 else tensor
        return tensor * 0.75 if tensor.is_floating_point() else tensor

    return map_leaves(inputs, lambda item: changed(item) if isinstance(item, Tensor) else item)


def _same_path(model: nn.Module, recording: Recording, inputs: Any) -> bool:
    """Whether the user's code does the same operations for `inputs` as were recorded."""
    again = _recorded(model, inputs)
    again.drop_unused()
    return [(node.name, node.op) for node in again.nodes] == [(node.name, node.op) for node in recording.nodes]


def _recorded(model: nn.Module, inputs: Any) -> Recording:
    with Recorder(model, Claims.installed()) as recorder:
        model(*_copied(inputs))
    return recorder.recording


def _compare(network: ReconstructedNetwork, model: nn.Module, inputs: Any, expected: list[Tensor], what: str) -> None:
    if _gives(network, model, inputs, expected):
        return
    again = tensors_in(model(*_copied(inputs)))
    if not _all_same(expected, again):
        raise CaptureError(
            f"the network gives different outputs on {what} each time it runs, in eval mode too: no record can be verified",
            hint="make its forward deterministic in eval mode (random numbers only when self.training)",
        )
    raise CaptureError(
        f"the record does not reproduce the network on {what}: {_first_difference(network, model, inputs)[1]}",
        hint="something in forward is invisible to capture (NumPy, int(), a value computed once): see the named line",
    )


def _gives(network: ReconstructedNetwork, model: nn.Module, inputs: Any, expected: list[Tensor]) -> bool:
    """Whether the record gives these outputs of the original."""
    try:
        given = tensors_in(network(*_copied(inputs)))
    except Exception:  # noqa: BLE001 - a record that does not even run: `_first_difference` finds where and says why
        return False
    return _all_same(expected, given) or _gives_but_for_strides(network, model, inputs, expected)


def _gives_but_for_strides(network: ReconstructedNetwork, model: nn.Module, inputs: Any, expected: list[Tensor]) -> bool:
    """Whether it does once layers whose equal inputs lie otherwise in memory give what they give there, which must be near.

    An axis of one element has a stride too. It stays where an op works in place, the record's new tensor has another, and
    torch chooses kernels by it, whose sums differ in the last bits.
    """
    try:
        with _keeping_attributes(model):
            reference = _recorded(model, inputs)
    except CaptureError:  # these inputs take a way through the user's code that was not recorded and cannot be: another answer
        return False
    values: dict[str, Any] = dict(zip(network.input_nodes, tensors_in(inputs), strict=True))
    replaced: list[Node] = []
    for step in walk(network, _copied(inputs)):
        for index, name in enumerate(step.node.outputs):
            if _differs(step, index, reference):
                if not _rounded_otherwise(step, index, reference):
                    return False
                replaced.append(step.node)
            values[name] = step.outputs[index]
    given = [values[name] for name in tree_leaves(network.graph.outputs) if isinstance(values[name], Tensor)]
    if not (replaced and _all_same(expected, given)):
        return False
    names = ", ".join(f"`{node.name}` at {node.source}" for node in replaced)
    logger.info("equal but for rounding where inputs with an axis of one element lie otherwise in memory: %s", names)
    return True


def _differs(step: Step, index: int, reference: Recording) -> bool:
    other = reference.values.get(step.node.outputs[index])
    return other is not None and not _same(other, step.outputs[index])


def _rounded_otherwise(step: Step, index: int, reference: Recording) -> bool:
    """Whether an output differs by no more than rounding, of inputs that are equal and have other strides. Then it becomes the
    original's, so that nothing after it differs for that.
    """
    read = [(one, reference.values.get(name)) for one, name in zip(step.inputs, step.node.inputs, strict=True)]
    known = [(one, other) for one, other in read if other is not None]
    equal = all(_same(other, one) for one, other in known)
    other = reference.values[step.node.outputs[index]]
    if not (equal and any(one.stride() != other.stride() for one, other in known) and _near(step.outputs[index], other)):
        return False
    step.outputs[index] = other.clone()
    return True


def _near(mine: Any, other: Tensor) -> bool:
    """Whether sums that were taken in another order may differ so much."""
    if not (isinstance(mine, Tensor) and mine.shape == other.shape and mine.dtype == other.dtype and mine.is_floating_point()):
        return False
    return bool((mine - other).abs().max() <= 64 * torch.finfo(mine.dtype).eps * other.abs().max())


def _first_difference(network: ReconstructedNetwork, model: nn.Module, inputs: Any) -> tuple[str, str]:
    """Record the original again on these inputs and walk both side by side: the line, and what is different there."""
    reference = _recorded(model, inputs)
    by_name = {node.name: node for node in reference.nodes}
    line = "an unknown line"

    def running(step: Step) -> None:
        nonlocal line
        line = step.node.source or line

    try:
        for step in walk(network, _copied(inputs), around=running):
            node = by_name.get(step.node.name)
            if node is None:
                return line, f"`{step.node.name}` at {step.node.source} did not run again"
            for index in range(len(step.node.outputs)):
                if _differs(step, index, reference) and not _rounded_otherwise(step, index, reference):
                    return line, f"`{step.node.name}` at {step.node.source} is the first node whose output differs"
    except Exception as error:  # noqa: BLE001 - whatever the record's failure is, it is the answer
        return line, f"it fails with {type(error).__name__}: {error}"
    return line, "the outputs differ although every recorded value agrees"


def _all_same(expected: Sequence[Tensor], given: Sequence[Tensor]) -> bool:
    return len(expected) == len(given) and all(_same(a, b) for a, b in zip(expected, given, strict=True))


def _same(a: Tensor, b: Any) -> bool:
    """Equal in every bit that matters: NaN equals NaN."""
    if not isinstance(b, Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
