"""What the methods of many handlers need; `amc_plugins.handlers` gives it to their authors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from amc_plugins.core.errors import AmcError

__all__ = ["assign_tensors", "broadcast_shape", "plain", "resized", "with_flags_of"]


def broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that tensors of these shapes are broadcast to; None if they do not fit each other. For shape rules."""
    if all(shape == shapes[0] for shape in shapes):
        return tuple(shapes[0])
    rank = max(map(len, shapes))
    laid = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    sizes = [set(column) - {1} for column in zip(*laid, strict=True)]
    return None if any(len(found) > 1 for found in sizes) else tuple(found.pop() if found else 1 for found in sizes)


def assign_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put `tensors` into the parameters and buffers of the same names, exactly (dtype and device of the given tensors win).

    Raises:
        AmcError: a slot is missing, unknown, or has another shape.
    """
    slots = module.state_dict(keep_vars=True)
    if set(slots) != set(tensors):
        raise AmcError(f"{type(module).__name__} has the tensors {sorted(slots)}, given were {sorted(tensors)}")
    for name, given in tensors.items():
        current = slots[name]
        if current.shape != given.shape:
            raise AmcError(f"{type(module).__name__}.{name} has shape {tuple(current.shape)}, given was {tuple(given.shape)}")
        owner_path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_path)
        if isinstance(current, nn.Parameter):
            trainable = current.requires_grad and given.is_floating_point()
            setattr(owner, leaf, nn.Parameter(given.detach().clone(), requires_grad=trainable))
        else:
            setattr(owner, leaf, given.detach().clone())


def resized(module: nn.Module, tensors: Mapping[str, Tensor], **attributes: Any) -> nn.Module:
    """A layer like `module` with copies of these tensors and other attributes: `keep` many thousand times in a search.

    What the class's constructor would give, without running it; hooks are not taken over. For layers without children whose
    attributes say all about them. A parameter that is not given becomes None.

    Raises:
        AmcError: the layer has children, or no slot of a tensor's name.
    """
    if module._modules:
        raise AmcError(f"{type(module).__name__} has children; only single layers can be resized")
    if unknown := set(tensors) - set(module._parameters) - set(module._buffers):
        raise AmcError(f"{type(module).__name__} has no tensors {sorted(unknown)}")
    made = type(module).__new__(type(module))
    nn.Module.__init__(made)
    own = {key: value for key, value in module.__dict__.items() if key not in made.__dict__}
    made.__dict__.update(own, training=module.training, **attributes)
    made._non_persistent_buffers_set = set(module._non_persistent_buffers_set)
    for name, parameter in module._parameters.items():
        given = tensors.get(name)
        trainable = given is not None and given.is_floating_point() and (parameter is None or parameter.requires_grad)
        made._parameters[name] = None if given is None else nn.Parameter(given.detach().clone(), requires_grad=trainable)
    for name, buffer in module._buffers.items():
        kept = tensors.get(name, buffer)
        made._buffers[name] = None if kept is None else kept.detach().clone()
    return made


def with_flags_of(module: nn.Module, original: nn.Module) -> nn.Module:
    """Give a module that was made anew the mode of the user's module, and `requires_grad` of its parameters by name.

    A tensor in place of a parameter comes from a re-parametrisation: it is trainable if anything in `original` is.
    """
    for name, parameter in module.named_parameters():
        theirs = getattr(original, name)
        if not isinstance(theirs, nn.Parameter):
            theirs = next((one for one in original.parameters() if one.requires_grad), theirs)
        parameter.requires_grad_(theirs.requires_grad)
    return module.train(original.training)


def plain(value: Any) -> Any:
    """Tuples as lists, at any depth: how parameters hold them."""
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
