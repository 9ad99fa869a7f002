"""Emitters of convolutions, linear layers, embeddings and rounding to integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amc_onnx_export._op import Emitter, Name, Op
from amc_onnx_export._resize import padded

__all__ = ["EMITTERS", "batched"]


def batched(op: Op, rank: int, compute: Callable[[Name], str]) -> str:
    """`compute` of a tensor with `rank` spatial axes; one without a batch axis gets it for the time being."""
    if op.x.rank == rank + 2:
        return compute(op.x)
    return op.squeeze(compute(op.unsqueeze(op.x, 0)), 0)


def _amounts(value: int | Sequence[int], rank: int) -> list[int]:
    given = [value] if isinstance(value, int) else list(value)
    return given * rank if len(given) == 1 else given


def _conv(rank: int) -> Emitter:
    def emit(op: Op) -> str:
        params = op.params
        kernel, stride, dilation = (_amounts(getattr(params, name), rank) for name in ("kernel_size", "stride", "dilation"))
        if params.padding == "same":
            total = [wide * (size - 1) for wide, size in zip(dilation, kernel, strict=True)]
            begin = [one // 2 for one in total]
            end = [one - half for one, half in zip(total, begin, strict=True)]
        else:
            begin = end = [0] * rank if params.padding == "valid" else _amounts(params.padding, rank)

        def compute(x: Name) -> str:
            pads = [*begin, *end]
            if params.padding_mode != "zeros":
                x = padded(op, x, rank + 2, dict(zip(range(2, rank + 2), zip(begin, end, strict=True), strict=True)), mode)
                pads = [0] * (2 * rank)
            inputs = [x, op.slot("weight"), *([op.slot("bias")] if "bias" in op.tensors else [])]
            return op.add(
                "Conv", *inputs, kernel_shape=kernel, strides=stride, pads=pads, dilations=dilation, group=params.groups
            )

        mode = params.padding_mode
        return batched(op, rank, compute)

    return emit


def _conv_transpose(rank: int) -> Emitter:
    def emit(op: Op) -> str:
        params = op.params
        names = ("kernel_size", "stride", "padding", "output_padding", "dilation")
        kernel, stride, padding, extra, dilation = (_amounts(getattr(params, name), rank) for name in names)
        if params.output_size is not None:
            sizes = [op.known(one, "the output size") for one in params.output_size]
            for axis, want in enumerate(sizes):
                given = op.x.shape[op.x.rank - rank + axis]
                if given is None:
                    op.refuse("the size that the output padding is for is known at run time only")
                reach = (given - 1) * stride[axis] - 2 * padding[axis] + dilation[axis] * (kernel[axis] - 1) + 1
                extra[axis] = want - reach
        inputs = [op.slot("weight"), *([op.slot("bias")] if "bias" in op.tensors else [])]
        return batched(
            op,
            rank,
            lambda x: op.add(
                "ConvTranspose",
                x,
                *inputs,
                kernel_shape=kernel,
                strides=stride,
                pads=[*padding, *padding],
                output_padding=extra,
                dilations=dilation,
                group=params.groups,
            ),
        )

    return emit


def _linear(op: Op) -> str:
    bias = [op.slot("bias")] if "bias" in op.tensors else []
    if op.x.rank == 2:
        return op.add("Gemm", op.x, op.slot("weight"), *bias, transB=1)
    product = op.add("MatMul", op.x, op.slot("weight", lambda one: one.t().contiguous(), "transposed"))
    return op.add("Add", product, *bias) if bias else product


def _embedding(op: Op) -> str:
    return op.add("Gather", op.slot("weight"), op.x, axis=0)


def _fake_quantize(op: Op) -> str:
    """As it is computed: quantize and dequantize nodes would round the zero point and the ties in another way."""
    low, high = op.constant(0.0), op.constant(float(2**op.params.bits - 1))
    step, zero = op.slot("scale"), op.slot("zero")
    inside = op.add("Clip", op.add("Add", op.add("Div", op.x, step), zero), low, high)
    return op.add("Mul", op.add("Sub", op.add("Round", inside), zero), step)


EMITTERS: dict[str, Emitter] = {
    **{f"vn.conv{rank}d": _conv(rank) for rank in (1, 2, 3)},
    **{f"vn.conv_transpose{rank}d": _conv_transpose(rank) for rank in (1, 2, 3)},
    "vn.linear": _linear,
    "vn.embedding": _embedding,
    "vn.fake_quantize": _fake_quantize,
}
