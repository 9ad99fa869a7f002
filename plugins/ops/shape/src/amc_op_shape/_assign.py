"""Writing into a part of a tensor: `x[:, 0] = y` makes a new tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amc_op_shape import _modules
from amc_op_shape._ids import copied
from amc_op_shape._slice import SliceParams, parsed
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["SetItemHandler"]


class SetItemParams(SliceParams):
    """The place, and the number that is written when there is no second tensor."""

    number: bool | int | float | None = None


class SetItemHandler(LayerHandler):
    """The result has the channels of what is written into; what is written is tied to the channels that it covers.

    A place among channels pins them. Masks that the network computes are declined (`torch.where` says the same).
    """

    Params = SetItemParams
    module_class = _modules.TensorSetItem

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "values")
        bound = call.bind("self", "index", "value")
        given, value = bound["index"], bound["value"]
        index, values, positions = parsed(call, given if isinstance(given, tuple) else (given,))
        if "None" in index or "$" in index:
            raise Declined(f"{call.target} with None or computed places in the index")
        if isinstance(value, Value):
            return _modules.TensorSetItem(index, values, positions)
        if not isinstance(value, bool | int | float):
            raise Declined(f"{call.target} of {value!r}")
        return _modules.TensorSetItem(index, values, positions, value)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        positions = [tensors[name].detach().clone() for name in sorted(tensors, key=lambda name: int(name.rpartition("_")[2]))]
        return _modules.TensorSetItem(params.index, params.values, positions, params.number)

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        given = inputs[0]
        items = list(params.index) if "..." in params.index else [*params.index, "..."]
        place = items.index("...")
        items[place : place + 1] = [":"] * (given.dim() - len(items) + 1)
        target = ids.mixed(
            given, [axis for axis, item in enumerate(items) if item != ":"], f"{self.spec.op} writes at places among them"
        )
        if len(inputs) > 1:
            left = [axis for axis, item in enumerate(items) if item != "#"]
            target = target.reshape([target.shape[axis] for axis in left])
            value = inputs[1]
            for axis in range(-min(value.dim(), len(left)), 0):
                if items[left[axis]] != ":":
                    value = ids.mixed(value, [axis], f"{self.spec.op} writes them at places among channels")
            if any("@" in item for item in items):
                ids.pin(value, f"{self.spec.op} writes them at places of a tensor")
            else:
                ids.tie(target, value)
        return given
