"""What the handlers of this package share: the settings and tensors of functional calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from amc_plugins.handlers import Call, Declined

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["affine_tensors", "named", "trainable_as", "validated"]

P = TypeVar("P", bound=BaseModel)


def validated(call: Call, kind: type[P], **settings: Any) -> P:
    """The parameters of a call. Raises Declined for settings that the network computes."""
    try:
        return kind(**settings)
    except ValidationError as error:
        raise Declined(f"{call.target} with settings that the network computes: {error}") from error


def affine_tensors(call: Call, bound: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weight and bias of a functional call: none, or both (ones and zeros where one is missing)."""
    found = named(weight=call.take(bound["weight"]), bias=call.take(bound["bias"]))
    if found:
        like = next(iter(found.values()))
        found = {
            "weight": found.get("weight", like.new_ones(like.shape)),
            "bias": found.get("bias", like.new_zeros(like.shape)),
        }
    return found


def named(**tensors: Tensor | None) -> dict[str, Tensor]:
    """Those that are not None."""
    return {name: one for name, one in tensors.items() if one is not None}


def trainable_as(module: nn.Module, bound: Mapping[str, Any]) -> nn.Module:
    """Parameters that are trainable where those of the call were; what the call left out is not."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(bound.get(name) is not None and bound[name].constant.requires_grad)
    return module
