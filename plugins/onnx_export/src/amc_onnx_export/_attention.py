"""Emitters of products of matrices and of attention."""

from __future__ import annotations

import torch

from amc_onnx_export._graph import Dim
from amc_onnx_export._op import Emitter, Name, Op, Value

__all__ = ["EMITTERS"]


def _matmul(op: Op) -> str:
    if op.params.weight is not None:
        return op.add("MatMul", op.x, op.slot("weight"))
    return op.add("MatMul", *(op.inputs[::-1] if op.params.reversed else op.inputs))


def _addmm(op: Op) -> str:
    given = dict(zip(op.params.roles, op.inputs, strict=True))
    product, rest = op.add("MatMul", given["a"], given["b"]), given["input"].name
    if op.params.alpha != 1:
        product = op.add("Mul", product, op.constant(op.params.alpha, op.out.dtype))
    if op.params.beta != 1:
        rest = op.add("Mul", rest, op.constant(op.params.beta, op.out.dtype))
    return op.add("Add", rest, product)


def _einsum(op: Op) -> str:
    """An ellipsis that the result leaves out is summed; ONNX wants letters for that."""
    equation = op.params.equation.replace(" ", "")
    operands, arrow, result = equation.partition("->")
    if arrow and "..." in operands and "..." not in result:
        spare = [one for one in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if one not in equation]
        terms = []
        for term, one in zip(operands.split(","), op.inputs, strict=True):
            hidden = one.rank - len(term.replace("...", ""))
            terms.append(term.replace("...", "".join(spare[8 - hidden : 8])))
        equation = f"{','.join(terms)}->{result}"
    return op.add("Einsum", *op.inputs, equation=equation)


def _masked(op: Op, scores: str, mask: Name, allowed: bool, dtype: torch.dtype) -> str:
    """Scores with minus infinity where a mask of truth values is not `allowed`; other masks are added."""
    if dtype != torch.bool:
        return op.add("Add", scores, mask)
    never = op.constant(float("-inf"), op.x.dtype)
    return op.add("Where", mask, *((scores, never) if allowed else (never, scores)))


def _attention(op: Op) -> str:
    given = dict(zip(op.params.roles, op.inputs, strict=True))
    query, key, value = given["query"], given["key"], given["value"]
    keys, values = key.name, value.name
    if op.params.enable_gqa:
        keys, values = (_for_each_query(op, query, one) for one in (key, value))
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    scores = op.add("MatMul", op.add("Mul", query, _scale(op, query)), op.add("Transpose", keys, perm=order))
    if op.params.is_causal:
        scores = _masked(op, scores, _causal(op, op.size(query, -2), op.size(key, -2)), True, torch.bool)
    if "attn_mask" in given:
        scores = _masked(op, scores, given["attn_mask"], True, given["attn_mask"].dtype)
    return op.add("MatMul", op.add("Softmax", scores, axis=-1), values)


def _scale(op: Op, query: Value) -> str:
    width = query.shape[-1]
    if op.params.scale is not None or width is not None:
        return op.constant(float(op.params.scale) if width is None or op.params.scale is not None else width**-0.5, query.dtype)
    return op.add("Reciprocal", op.add("Sqrt", op.scalar(op.size(query, -1), query.dtype)))


def _causal(op: Op, queries: Dim, keys: Dim) -> str:
    """(L, S), true where a query may look."""
    if isinstance(queries, int) and isinstance(keys, int):
        return op.constant(torch.ones(queries, keys, dtype=torch.bool).tril())
    rows, columns = (op.add("Range", _zero(op), op.scalar(one), op.constant(1, torch.int64)) for one in (queries, keys))
    return op.add("GreaterOrEqual", op.unsqueeze(rows, 1), columns)


def _zero(op: Op) -> str:
    return op.constant(0, torch.int64)


def _for_each_query(op: Op, query: Value, one: Value) -> str:
    """Heads (axis -3) repeated, each in a row, until there are as many as those of the queries."""
    axis = one.rank - 3
    times = op.known_size(query, -3, "the number of heads") // op.known_size(one, -3, "the number of heads")
    repeats: list[Dim] = [1] * (one.rank + 1)
    repeats[axis + 1] = times
    tiled = op.add("Tile", op.unsqueeze(one, axis + 1), op.vector(repeats))
    sizes = [op.size(one, place) for place in range(one.rank)]
    return op.reshape(tiled, [*sizes[:axis], op.known_size(query, -3, "the number of heads"), *sizes[axis + 1 :]])


def _multihead(op: Op) -> str | list[str]:
    params = op.params
    if params.add_bias_kv or params.add_zero_attn:
        op.refuse("with `add_bias_kv` or `add_zero_attn`")
    given = dict(zip(params.roles, op.inputs, strict=True))
    batched = given["query"].rank == 3
    heads, width = params.num_heads, params.embed_dim // params.num_heads

    def projected(place: int, name: str) -> str:
        x: Name = given[name]
        if not batched:
            x = op.unsqueeze(x, 0)
        elif not params.batch_first:
            x = op.add("Transpose", x, perm=[1, 0, 2])
        rows = slice(place * params.embed_dim, (place + 1) * params.embed_dim)
        if params.packed:
            weight = op.slot("attention.in_proj_weight", lambda one: one[rows].t().contiguous(), name)
        else:
            weight = op.slot(f"attention.{name[0]}_proj_weight", lambda one: one.t().contiguous(), "transposed")
        x = op.add("MatMul", x, weight)
        if "attention.in_proj_bias" in op.tensors:
            x = op.add("Add", x, op.slot("attention.in_proj_bias", lambda one: one[rows].contiguous(), name))
        apart = op.add("Reshape", x, op.vector([0, 0, heads, width]))
        return op.add("Transpose", apart, perm=[0, 2, 1, 3])

    query, key, value = (projected(place, name) for place, name in enumerate(("query", "key", "value")))
    scaled = op.add("Mul", query, op.constant(width**-0.5, op.x.dtype))
    scores = op.add("MatMul", scaled, op.add("Transpose", key, perm=[0, 1, 3, 2]))
    if "attn_mask" in given:
        mask = given["attn_mask"]
        laid = mask.name if mask.rank == 2 else _by_heads(op, mask, heads)
        scores = _masked(op, scores, laid, False, mask.dtype)
    if "key_padding_mask" in given:
        mask = given["key_padding_mask"]
        laid = op.unsqueeze(mask, 1, 2) if mask.rank == 2 else op.unsqueeze(mask, 0, 1, 2)
        scores = _masked(op, scores, laid, False, mask.dtype)
    weights = op.add("Softmax", scores, axis=-1)
    mixed = op.add("Transpose", op.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    out = op.add("Reshape", mixed, op.vector([0, 0, params.embed_dim]))
    out = op.add("MatMul", out, op.slot("attention.out_proj.weight", lambda one: one.t().contiguous(), "transposed"))
    if "attention.out_proj.bias" in op.tensors:
        out = op.add("Add", out, op.slot("attention.out_proj.bias"))
    if not batched:
        out = op.squeeze(out, 0)
    elif not params.batch_first:
        out = op.add("Transpose", out, perm=[1, 0, 2])
    if not params.need_weights:
        return out
    if params.average_attn_weights:
        weights = op.reduce("Mean", weights, [1], keep=False)
    return [out, weights if batched else op.squeeze(weights, 0)]


def _by_heads(op: Op, mask: Value, heads: int) -> str:
    """(N * heads, L, S) as (N, heads, L, S)."""
    return op.add("Reshape", mask, op.vector([-1, heads, op.size(mask, 1), op.size(mask, 2)]))


EMITTERS: dict[str, Emitter] = {
    "vn.matmul": _matmul,
    "vn.addmm": _addmm,
    "vn.einsum": _einsum,
    "vn.attention": _attention,
    "vn.multihead_attention": _multihead,
}
