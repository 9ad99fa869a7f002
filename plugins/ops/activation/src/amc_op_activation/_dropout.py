"""Dropout: nothing in eval mode; in training mode entries, or whole channels, become zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from amc_plugins.handlers import Call, Declined, ElementwiseHandler, assign_tensors
from amc_plugins.handlers import Params as BaseParams

__all__ = ["DropoutHandler"]

_SPATIAL: dict[int, type[nn.Dropout1d] | type[nn.Dropout2d] | type[nn.Dropout3d]] = {
    1: nn.Dropout1d,
    2: nn.Dropout2d,
    3: nn.Dropout3d,
}


class DropoutHandler(ElementwiseHandler):
    """`p` is the share dropped; `spatial` drops whole channels (`nn.Dropout2d`), which have `rank` axes.

    A functional call records `training` as the literal it was; it is taken for `training=self.training`, and the module follows
    the network's mode. Dropout that is on in eval mode too fails capture's own check, which runs in eval mode.
    """

    class Params(BaseParams):
        p: float = 0.5
        spatial: bool = False
        rank: Literal[1, 2, 3] = 2

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self.build(self.params(call.original), {}).train(call.original.training)
        if call.target.startswith("torch.nn.functional."):
            bound = call.bind("input", p=0.5, training=True, inplace=False)
        else:
            bound = call.bind("input", "p", "train")
        name = call.target.rpartition(".")[2]
        rank = int(name[-2]) if name.endswith("d") else 2
        spatial = name in {"dropout1d", "dropout2d", "dropout3d", "feature_dropout", "feature_dropout_"}
        try:
            return self.build(self.Params(**{"p": bound["p"], "spatial": spatial, "rank": rank}), {})
        except ValidationError as error:
            raise Declined(f"{call.target} with a computed share: {error}") from error

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        rank = next((rank for rank, kind in _SPATIAL.items() if isinstance(one, kind)), None)
        return self.Params(**{"p": one.p, "spatial": rank is not None, "rank": rank or 2})

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = _SPATIAL[params.rank](params.p) if params.spatial else nn.Dropout(params.p)
        assign_tensors(module, tensors)
        return module
