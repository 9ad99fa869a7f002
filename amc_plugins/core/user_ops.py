"""The handlers behind `amc_plugins.plugin.transparent` and `barrier`: one line for a module class of somebody's package."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from amc_plugins.core.errors import UnsupportedOpError
from amc_plugins.core.loading import import_target
from amc_plugins.handlers import Call, ChannelIds, Declined, LayerHandler, assign_tensors, plain

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Barrier", "Transparent"]


class _UserOp(LayerHandler):
    """A module class of somebody's package that has no handler of its own beyond one line in a plugin."""

    class Params(BaseModel):
        model_config = ConfigDict(extra="allow")

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return copy.deepcopy(call.original)
        raise Declined("functions need a handler class; one-line declarations are for module classes")

    def params(self, module: nn.Module) -> BaseModel:
        found: dict[str, Any] = {}
        for name, parameter in inspect.signature(type(module).__init__).parameters.items():
            if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if hasattr(module, name) and isinstance(
                getattr(module, name), int | float | str | bool | list | tuple | type(None)
            ):
                found[name] = plain(getattr(module, name))
            elif parameter.default is parameter.empty:
                raise UnsupportedOpError(
                    f"`{self.spec.captures[0]}` cannot be described: its argument `{name}` is not kept as an attribute",
                    hint="keep it as an attribute of the same name, or write a LayerHandler with `params` and `build`",
                )
        return self.Params(**found)

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        package, _, name = self.spec.captures[0].rpartition(".")
        module: nn.Module = import_target(f"{package}:{name}")(**params.model_dump())
        assign_tensors(module, tensors)
        return module


class Transparent(_UserOp):
    """What `amc_plugins.plugin.transparent` declares: element-wise, channels untouched."""

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        return inputs[0]


class Barrier(_UserOp):
    """What `amc_plugins.plugin.barrier` declares: nothing that touches it can be removed."""

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Sequence[Tensor]:
        why = f"{self.spec.op}: {self.spec.options['why']}"
        outputs = [ids.new(shape[-1], axis=-1, output=index) for index, shape in enumerate(ids.output_shapes)]
        for one in (*inputs, *outputs):
            ids.pin(one, why)
        return outputs
