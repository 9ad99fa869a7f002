"""`vn.normalize` (F.normalize: an axis divided by its norm) and `vn.local_response_norm` (by its neighbouring channels).

A. Krizhevsky, I. Sutskever and G. Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012,
section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from amc_op_norm._calls import validated
from amc_plugins.handlers import Call, ChannelIds, ElementwiseHandler
from amc_plugins.handlers import Params as BaseParams

__all__ = ["LocalResponseNormHandler", "Normalize", "NormalizeHandler"]


class Normalize(nn.Module):
    """x / max(|x|_p, eps), with the norm along `dim`."""

    def __init__(self, p: float = 2.0, dim: int | list[int] = 1, eps: float = 1e-12) -> None:
        super().__init__()
        self.p = p
        self.dim = dim
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, self.p, self.dim, self.eps)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return f"p={self.p}, dim={self.dim}, eps={self.eps}"


class NormalizeParams(BaseParams):
    """As in `torch.nn.functional.normalize`."""

    p: float = 2.0
    dim: int | list[int] = 1
    eps: float = 1e-12


class LocalResponseNormParams(BaseParams):
    """As in `torch.nn.LocalResponseNorm`."""

    size: PositiveInt
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0


class NormalizeHandler(ElementwiseHandler):
    """Channels pass, also those along the normalised axis: a channel that is zero adds nothing to a norm."""

    Params = NormalizeParams
    module_class = Normalize

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return super().module(call)
        bound = call.bind("input", p=2.0, dim=1, eps=1e-12, out=None)
        params = validated(call, NormalizeParams, p=bound["p"], dim=bound["dim"], eps=bound["eps"])
        return self.build(params, {})


class LocalResponseNormHandler(ElementwiseHandler):
    """Channels are divided by what their neighbours are, so they are pinned."""

    Params = LocalResponseNormParams
    module_class = nn.LocalResponseNorm

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            return self.build(self.params(call.original), {}).train(call.original.training)
        bound = call.bind("input", "size", alpha=1e-4, beta=0.75, k=1.0)
        del bound["input"]
        return self.build(validated(call, LocalResponseNormParams, **bound), {})

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.mixed(inputs[0], [1], f"{self.spec.op} divides channels by their neighbours")
        return inputs[0]
