"""Dropout: nothing in eval mode; in training mode entries, or whole channels, become zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from amc_plugins.handlers import Call, Declined, ElementwiseHandler, assign_tensors
from amc_plugins.handlers import Params as BaseParams

__all__ = ["DropoutHandler"]


class DropoutHandler(ElementwiseHandler):
    """`p` is the share dropped; `spatial` drops whole channels (`nn.Dropout2d`).

    A functional call records `training` as the literal it was; it is taken for `training=self.training`, and the module follows
    the network's mode. Dropout that is on in eval mode too fails capture's own check, which runs in eval mode.
    """

    class Params(BaseParams):
        p: float = 0.5
        spatial: bool = False

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self.build(self.params(call.original), {}).train(call.original.training)
        if call.target.startswith("torch.nn.functional."):
            bound = call.bind("input", p=0.5, training=True, inplace=False)
        else:
            bound = call.bind("input", "p", "train")
        spatial = call.target.rpartition(".")[2] in {"dropout2d", "feature_dropout", "feature_dropout_"}
        try:
            return self.build(self.Params(p=bound["p"], spatial=spatial), {})
        except ValidationError as error:
            raise Declined(f"{call.target} with a computed share: {error}") from error

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return self.Params(p=one.p, spatial=isinstance(one, nn.Dropout2d))

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = nn.Dropout2d(params.p) if params.spatial else nn.Dropout(params.p)
        assign_tensors(module, tensors)
        return module
