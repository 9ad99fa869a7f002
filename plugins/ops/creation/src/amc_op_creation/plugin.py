"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

# name: target, summary, `torch` names, tensor methods
_HANDLERS = {
    "full": ("_create:FullHandler", "a tensor of one number, of a computed size", "zeros ones full", ""),
    "full_like": (
        "_create:FullLikeHandler",
        "a tensor of one number, like another",
        "zeros_like ones_like full_like zero_ fill_",
        "new_zeros new_ones new_full zero_ fill_",
    ),
    "arange": ("_create:ArangeHandler", "numbers in equal steps", "arange", ""),
    "linspace": ("_create:LinspaceHandler", "a number of equal steps between two numbers", "linspace", ""),
    "tensor": ("_create:NumbersHandler", "computed numbers", "tensor as_tensor", ""),
    "eye": ("_create:EyeHandler", "ones on a diagonal", "eye", ""),
    "meshgrid": ("_derive:MeshgridHandler", "grids of coordinates", "meshgrid functional.meshgrid", ""),
    "tril": ("_derive:TriangleHandler", "a lower triangle", "tril", "tril tril_"),
    "triu": ("_derive:TriangleHandler", "an upper triangle", "triu", "triu triu_"),
    "one_hot": ("_derive:OneHotHandler", "classes as vectors", "nn.functional.one_hot", ""),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for name, (target, summary, functions, methods) in _HANDLERS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            examples="amc_op_creation._examples:examples",
            target=f"amc_op_creation.{target}",
            captures=(
                *(f"torch.{function}" for function in functions.split()),
                *(f"torch.Tensor.{method}" for method in methods.split()),
            ),
        )
