"""Declares the handlers of this distribution, one per operation. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator

from amc_plugins.plugin import LayerHandlerSpec, hookimpl

# kind: class, summary, further spellings; one without a placeholder is for one axis only
_POOLS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "max_pool": (
        "MaxPool",
        "the largest entry of each window",
        ("torch.max_pool{0}d", "torch.nn.functional.max_pool{0}d_with_indices"),
    ),
    "avg_pool": ("AvgPool", "the mean of each window", ("torch.avg_pool1d",)),
    "adaptive_avg_pool": (
        "AdaptiveAvgPool",
        "means of windows that give a chosen output size",
        ("torch.adaptive_avg_pool1d",),
    ),
    "adaptive_max_pool": (
        "AdaptiveMaxPool",
        "largest entries of windows that give a chosen output size",
        ("torch.adaptive_max_pool1d", "torch.nn.functional.adaptive_max_pool{0}d_with_indices"),
    ),
}

# name: target, summary, module class, further spellings beside `torch.<name>` and `torch.Tensor.<name>`
_REDUCTIONS: dict[str, tuple[str, str, str]] = {
    "mean": ("_reduce:MeanHandler", "the mean along axes, or of everything", "amc_op_pooling.TensorMean"),
    "sum": ("_reduce:ReductionHandler", "the sum along axes, or of everything", ""),
    "amax": ("_reduce:ReductionHandler", "the largest entry along axes, or of everything", ""),
    "amin": ("_reduce:ReductionHandler", "the smallest entry along axes, or of everything", ""),
    "prod": ("_reduce:ReductionHandler", "the product along an axis, or of everything", ""),
    "any": ("_reduce:ReductionHandler", "whether any entry is true", ""),
    "all": ("_reduce:ReductionHandler", "whether all entries are true", ""),
    "logsumexp": ("_reduce:ReductionHandler", "logarithm of the sum of exponentials along axes", "torch.special.logsumexp"),
    "std": ("_reduce:DeviationHandler", "standard deviation along axes, or of everything", ""),
    "var": ("_reduce:DeviationHandler", "variance along axes, or of everything", ""),
    "norm": (
        "_reduce:NormHandler",
        "norm of vectors along axes, or of everything",
        "torch.functional.norm torch.linalg.norm torch.linalg.vector_norm",
    ),
    "max": ("_order:ExtremeHandler", "largest entries and their places, or the larger of two tensors", ""),
    "min": ("_order:ExtremeHandler", "smallest entries and their places, or the smaller of two tensors", ""),
    "argmax": ("_order:PlaceHandler", "places of the largest entries", ""),
    "argmin": ("_order:PlaceHandler", "places of the smallest entries", ""),
    "cumsum": ("_order:CumulateHandler", "running sum along an axis", ""),
    "cumprod": ("_order:CumulateHandler", "running product along an axis", ""),
    "sort": ("_order:OrderHandler", "entries in order along an axis, and their places", ""),
    "argsort": ("_order:OrderHandler", "places of the entries in order along an axis", ""),
    "topk": ("_order:TopKHandler", "the largest entries along an axis, and their places", ""),
}


@hookimpl
def amc_layer_handlers() -> Iterator[LayerHandlerSpec]:
    for kind, (stem, summary, more) in _POOLS.items():
        for rank in (1, 2, 3):
            name, module = f"{kind}{rank}d", f"{stem}{rank}d"
            yield LayerHandlerSpec(
                name=name,
                op=f"vn.{name}",
                summary=summary,
                api=(1, 1),
                examples="amc_op_pooling._examples:examples",
                target=f"amc_op_pooling._pool:{module}Handler",
                captures=(
                    f"torch.nn.{module}",
                    f"amc_op_pooling.{module}",
                    f"torch.nn.functional.{name}",
                    *(one.format(rank) for one in more if rank == 1 or "{0}" in one),
                ),
            )
    for name, (target, summary, further) in _REDUCTIONS.items():
        yield LayerHandlerSpec(
            name=name,
            op=f"vn.{name}",
            summary=summary,
            api=(1, 1),
            examples="amc_op_pooling._examples:examples",
            target=f"amc_op_pooling.{target}",
            captures=(f"torch.{name}", f"torch.Tensor.{name}", *further.split()),
        )
