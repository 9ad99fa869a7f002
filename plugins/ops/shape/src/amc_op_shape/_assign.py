"""Writing into a tensor or a part of it: `x[:, 0] = y` and `x.copy_(y)` make a new tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from amc_op_shape import _modules
from amc_op_shape._ids import copied
from amc_op_shape._slice import SliceParams, cuts_of, kept_index, parsed
from amc_plugins.handlers import Call, ChannelIds, Declined, Kept, LayerHandler, Value

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["SetItemHandler"]


class SetItemParams(SliceParams):
    """The place, and the number that is written when there is no second tensor."""

    number: bool | int | float | None = None


class SetItemHandler(LayerHandler):
    """The result has the channels of what is written into; what is written is tied to the channels that it covers.

    A single place among channels pins the channel there, and computed places pin all. A number where a computed mask of the
    whole shape is true is recorded as `masked_fill`; other masks that the network computes are declined (`torch.where` says the
    same).
    """

    Params = SetItemParams
    module_class = _modules.TensorSetItem

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copied(call, "values")
        if call.target.endswith("copy_"):
            bound = {**call.bind("self", "src", non_blocking=False), "index": ...}
            bound["value"] = bound["src"]
        else:
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
        target, *written = inputs
        cuts = cuts_of(params.index, params.values, tuple(target.shape), None)
        region = [1 if cut.positions is None else len(cut.positions) for cut in cuts if cut.out is not None]
        for cut in cuts:
            if cut.positions is None:
                target = ids.mixed(target, [cut.axis], f"{self.spec.op} writes at computed places among them")
            elif not ids.varies(target, cut.axis):
                target = target.narrow(cut.axis, 0, 1)
            elif len(cut.positions) < target.shape[cut.axis]:
                target = target.index_select(cut.axis, torch.tensor(list(cut.positions), dtype=torch.long))
                if cut.out is None:
                    ids.pin(target, f"{self.spec.op} writes at a place among them")
        if written and target.numel():
            (value,) = written
            taken = [cut for cut in cuts if cut.out is not None]
            if "@" in params.index:
                ids.pin(value, f"{self.spec.op} writes them at places of a tensor")
            else:
                for axis in range(-min(value.dim(), len(taken)), 0):
                    if taken[axis].positions is None:
                        value = ids.mixed(value, [axis], f"{self.spec.op} writes them at computed places")
                target = target.reshape([target.shape[cut.axis] for cut in taken])
                ids.tie(target.expand(region), value)
        return inputs[0]

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        one: Any = module
        index, values = kept_index(one.index, one.values, inputs[0], None)
        return _modules.TensorSetItem(index, values, one.positions, one.number)
