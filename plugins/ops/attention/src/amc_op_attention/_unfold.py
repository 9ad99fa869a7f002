"""`F.multi_head_attention_forward` as its projections and its attention, each an operation of its own."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from amc_op_attention._modules import Attention

__all__ = ["unfolded"]

_GUARDS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def unfolded(func: Callable[..., Any]) -> Callable[..., Any]:
    """torch's own code of the function, which does not step aside for the mode that records it.

    Dropout becomes modules, which wake up when the network is trained again: torch leaves it out of calls in eval mode.
    """
    code: Any = func
    signature = inspect.signature(func)

    def run(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        rate, training = bound.arguments["dropout_p"], bound.arguments["training"]
        bound.arguments["dropout_p"] = 0.0
        softmax = code.__globals__["softmax"]

        def weighed(scores: Tensor, dim: int) -> Any:
            weights = softmax(scores, dim=dim)
            return nn.Dropout(rate).train(training)(weights) if rate else weights

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, _: float, is_causal: bool) -> Any:
            given = {"query": q, "key": k, "value": v, "attn_mask": mask}
            present = {name: one for name, one in given.items() if one is not None}
            return Attention(list(present), rate, is_causal).train(training)(*present.values())

        projected = code.__globals__["_in_projection_packed"]

        def packed(q: Tensor, k: Tensor, v: Tensor, w: Tensor, b: Tensor | None = None) -> Any:
            if k is not v or q is k:
                return projected(q, k, v, w, b)
            size = int(w.shape[1])  # not one of the queries' sizes: what is made of weights alone stays weights
            sizes = [size, 2 * size]
            biases = [None, None] if b is None else b.split(sizes)
            queries, both = (F.linear(x, *one) for x, one in zip((q, k), zip(w.split(sizes), biases, strict=True), strict=True))
            both = both.unflatten(-1, (2, size)).unsqueeze(0).transpose(0, -2).squeeze(-2).contiguous()
            return queries, both[0], both[1]

        names = {**code.__globals__, **dict.fromkeys(_GUARDS, lambda *_: False)}
        names.update(softmax=weighed, scaled_dot_product_attention=attend, _in_projection_packed=packed)
        inner = types.FunctionType(code.__code__, names, code.__name__, code.__defaults__, code.__closure__)
        inner.__kwdefaults__ = code.__kwdefaults__
        return inner(*bound.args, **bound.kwargs)

    return run
