"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

# name: target, summary, spellings
_HANDLERS = {
    "matmul": (
        "_matmul:MatmulHandler",
        "product of matrices or of stacks of matrices",
        "amc_op_attention.MatrixProduct torch.matmul torch.mm torch.spmm torch.bmm torch.linalg.matmul torch.Tensor.matmul "
        "torch.Tensor.mm torch.Tensor.bmm torch.Tensor.__matmul__ torch.Tensor.__rmatmul__",
    ),
    "addmm": (
        "_matmul:AddMatmulHandler",
        "product of matrices, and what is added to it",
        "amc_op_attention.AddMatrixProduct torch.addmm torch.baddbmm torch.Tensor.addmm torch.Tensor.baddbmm",
    ),
    "einsum": (
        "_einsum:EinsumHandler",
        "sum of products along named axes",
        "amc_op_attention.Einsum torch.einsum torch.functional.einsum",
    ),
    "attention": (
        "_attention:AttentionHandler",
        "scaled dot-product attention",
        "amc_op_attention.Attention torch.nn.functional.scaled_dot_product_attention",
    ),
    "multihead_attention": (
        "_multihead_handler:MultiheadAttentionHandler",
        "nn.MultiheadAttention with its projections",
        "amc_op_attention.MultiheadAttention torch.nn.functional.multi_head_attention_forward",
    ),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, spellings) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            examples="amc_op_attention._examples:examples",
            target=f"amc_op_attention.{target}",
            captures=tuple(spellings.split()),
        )
