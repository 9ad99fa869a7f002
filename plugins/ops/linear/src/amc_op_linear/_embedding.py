"""`vn.embedding`: rows of a table, looked up by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, PositiveInt
from torch import Tensor, nn

from amc_plugins.handlers import (
    Call,
    ChannelIds,
    Declined,
    Kept,
    LayerHandler,
    Shape,
    assign_tensors,
    with_flags_of,
)
from amc_plugins.handlers import Params as BaseParams

__all__ = ["EmbeddingHandler"]


class EmbeddingParams(BaseParams):
    """As in `torch.nn.Embedding`."""

    num_embeddings: PositiveInt
    embedding_dim: PositiveInt
    padding_idx: int | None = None


class EmbeddingHandler(LayerHandler):
    """Makes its features, the columns of its table. The numbers that it looks up have no channels.

    Tables that are normalised while they are read (`max_norm`) or have sparse gradients are declined.
    """

    Params = EmbeddingParams

    def module(self, call: Call) -> nn.Module:
        if call.original is not None:
            original: Any = call.original
            if original.max_norm is not None or original.scale_grad_by_freq or original.sparse:
                raise Declined(f"{call.target} with max_norm, scale_grad_by_freq or sparse gradients")
            return with_flags_of(self.build(self.params(original), {"weight": original.weight}), original)
        more = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False}
        bound = call.bind("input", "weight", padding_idx=None, **more)
        if any(bound[name] != more[name] for name in ("max_norm", "scale_grad_by_freq", "sparse")):
            raise Declined(f"{call.target} with max_norm, scale_grad_by_freq or sparse gradients")
        weight = call.take(bound["weight"])
        if weight is None or not isinstance(bound["padding_idx"], int | None):
            raise Declined(f"{call.target} with a computed `padding_idx`")
        rows, columns = weight.shape
        padding = bound["padding_idx"]
        params = EmbeddingParams(
            num_embeddings=rows, embedding_dim=columns, padding_idx=None if padding is None else padding % rows
        )
        module = self.build(params, {"weight": weight})
        module.get_parameter("weight").requires_grad_(bound["weight"].constant.requires_grad)
        return module

    def params(self, module: nn.Module) -> BaseModel:
        one: Any = module
        return EmbeddingParams(**{name: getattr(one, name) for name in EmbeddingParams.model_fields})

    def build(self, params: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
        module = nn.Embedding(**params.model_dump(), device="meta")
        assign_tensors(module, tensors)
        return module

    def macs(self, params: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
        return 0

    def channels(self, params: Any, inputs: Sequence[Tensor], ids: ChannelIds) -> Tensor:
        ids.pin(inputs[0], f"{self.spec.op} looks them up")
        return ids.new(params.embedding_dim, axis=-1)

    def keep(self, module: nn.Module, inputs: Sequence[Kept], outputs: Sequence[Kept]) -> nn.Module:
        if not outputs[0].restricts(-1):
            return module
        weight = module.get_parameter("weight").detach()
        weight = weight.index_select(1, outputs[0].axis(-1).to(weight.device))
        return self.build(
            EmbeddingParams(**{**self.params(module).model_dump(), "embedding_dim": weight.shape[1]}), {"weight": weight}
        )
