"""Emitters of resizing, padding, shuffles of pixels and channels, patches, and sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from amc_onnx_export._graph import Dim
from amc_onnx_export._op import Emitter, Name, Op
from amc_onnx_export._shape import window_places

__all__ = ["EMITTERS", "mixed", "padded"]

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
_FILTERS = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}


def padded(op: Op, x: Name, rank: int, amounts: Mapping[int, tuple[Dim, Dim]], mode: str, value: float | None = None) -> str:
    """`x` with so much before and after each axis; negative amounts crop."""
    if mode == "circular":
        return _wrapped(op, x, amounts)
    if mode not in _MODES:
        op.refuse(f"the mode {mode!r}")
    pads = [amounts.get(axis, (0, 0))[side] for side in (0, 1) for axis in range(rank)]
    inputs = [x, op.vector(pads)]
    if mode == "constant":
        inputs.append(op.constant(0 if value is None else value, op.x.dtype))
    return op.add("Pad", *inputs, mode=_MODES[mode])


def _wrapped(op: Op, x: Name, amounts: Mapping[int, tuple[Dim, Dim]]) -> str:
    for axis, (before, after) in amounts.items():
        if not isinstance(before, int) or not isinstance(after, int) or min(before, after) < 0:
            op.refuse("circular padding by a computed or negative amount")
        head = [op.slice(x, axis, -before, 2**63 - 1)] if before else []
        tail = [op.slice(x, axis, 0, after)] if after else []
        if head or tail:
            x = op.add("Concat", *head, x, *tail, axis=axis)
    return x if isinstance(x, str) else x.name


def _pad(op: Op) -> str:
    dims = [op.dim(one) for one in op.params.pad]
    pairs = list(zip(dims[::2], dims[1::2], strict=True))
    amounts = {op.x.rank - 1 - place: pair for place, pair in enumerate(pairs)}
    return padded(op, op.x, op.x.rank, amounts, op.params.mode, op.params.value)


def _interpolate(op: Op) -> str:
    params, rank = op.params, op.x.rank - 2
    if params.mode == "area":
        from amc_onnx_export._pooling import adaptive

        return adaptive(op, [_size_of(op, axis) for axis in range(2, rank + 2)], largest=False)
    if params.mode in ("nearest", "nearest-exact"):
        exact = params.mode == "nearest-exact"
        how: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "half_pixel" if exact else "asymmetric",
            "nearest_mode": "round_prefer_ceil" if exact else "floor",
        }
    elif params.antialias:
        return _filtered(op)
    elif params.mode in _FILTERS:
        how = {
            "mode": _FILTERS[params.mode],
            "coordinate_transformation_mode": "align_corners" if params.align_corners else "half_pixel",
            "cubic_coeff_a": -0.75 if params.mode == "bicubic" else None,
        }
    else:
        op.refuse(f"the mode {params.mode!r}")
    if params.size is None and not params.recompute_scale_factor:
        given = params.scale_factor if isinstance(params.scale_factor, list) else [params.scale_factor] * rank
        if not all(isinstance(one, int | float) for one in given):
            op.refuse("a computed scale")
        scales = torch.tensor([1.0, 1.0, *(float(one) for one in given)], dtype=torch.float32)
        return op.add("Resize", op.x, "", op.graph.store(scales, "scales"), **how)
    sizes = [op.size(op.x, 0), op.size(op.x, 1), *(_size_of(op, axis) for axis in range(2, rank + 2))]
    return op.add("Resize", op.x, "", "", op.vector(sizes), **how)


def _filtered(op: Op) -> str:
    """Anti-aliased: each axis times torch's own filter, as a matrix. ONNX Runtime weighs borders in another way."""
    result: Name = op.x
    for axis in (2, 3):
        size, made = op.x.shape[axis], op.out.shape[axis]
        if size is None or made is None:
            op.refuse("anti-aliased, where a size is known at run time only")
        if size != made or op.params.mode == "bicubic":
            scale = op.params.scale_factor if op.params.size is None else None
            if scale is not None and not op.params.recompute_scale_factor and isinstance(scale, list):
                scale = scale[axis - 2]
            identity = torch.eye(size)[None, None]
            if scale is None or op.params.recompute_scale_factor:
                how: dict[str, Any] = {"size": (size, made)}
            else:
                how = {"scale_factor": (1.0, scale)}
            filters = torch.nn.functional.interpolate(
                identity, **how, mode=op.params.mode, align_corners=op.params.align_corners, antialias=True
            )
            result = mixed(op, result, axis, filters[0, 0].to(op.x.dtype))
    return result if isinstance(result, str) else result.name


def mixed(op: Op, x: Name, axis: int, matrix: torch.Tensor) -> str:
    """The axis times a matrix on its right."""
    last = op.x.rank - 1
    if axis == last:
        return op.add("MatMul", x, op.constant(matrix))
    order = list(range(last + 1))
    order[axis], order[last] = last, axis
    turned = op.add("MatMul", op.add("Transpose", x, perm=order), op.constant(matrix))
    return op.add("Transpose", turned, perm=order)


def _size_of(op: Op, axis: int) -> Dim:
    """The size of the result along an axis."""
    made = op.out.shape[axis]
    if made is not None:
        return made
    if op.params.size is None:
        op.refuse("a size made from a scale and a size known at run time only")
    sizes = op.params.size if isinstance(op.params.size, list) else [op.params.size] * (op.x.rank - 2)
    return op.dim(sizes[axis - 2])


def _pixel_shuffle(op: Op) -> str:
    if op.x.rank != 4:
        op.refuse(f"of {op.x.rank} axes")
    return op.add("DepthToSpace", op.x, blocksize=op.params.upscale_factor, mode="CRD")


def _pixel_unshuffle(op: Op) -> str:
    """(N, C, H * r, W * r) by way of (N, C, H, r, W, r) and (N, C, r, r, H, W)."""
    if op.x.rank != 4:
        op.refuse(f"of {op.x.rank} axes")
    r = op.params.downscale_factor
    batch, channels, height, width = (op.size(op.x, axis) for axis in range(4))
    rows, columns = op.integer("floordiv", height, r), op.integer("floordiv", width, r)
    apart = op.reshape(op.x, _one_open([batch, channels, rows, r, columns, r]))
    turned = op.add("Transpose", apart, perm=[0, 1, 3, 5, 2, 4])
    return op.reshape(turned, [batch, op.integer("mul", channels, r * r), rows, columns], op.out.shape)


def _one_open(dims: list[Dim]) -> list[Dim]:
    """The same with -1 for a size that is computed, where there is only one."""
    open_ones = [place for place, one in enumerate(dims) if isinstance(one, str)]
    return [-1 if place == open_ones[0] else one for place, one in enumerate(dims)] if len(open_ones) == 1 else dims


def _channel_shuffle(op: Op) -> str:
    channels = op.x.shape[1]
    if channels is None:
        op.refuse("of channels whose number is known at run time only")
    order = torch.arange(channels).reshape(op.params.groups, -1).t().reshape(-1)
    return op.add("Gather", op.x, op.constant(order), axis=1)


def _pair(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value, value]


def _unfold(op: Op) -> str:
    """Rows and columns of all patches by two gathers: (N, C, kh, Lh, kw, Lw), then (N, C * kh * kw, Lh * Lw)."""
    single = op.x.rank == 3
    kernel, dilation, padding, stride = (
        _pair(getattr(op.params, name)) for name in ("kernel_size", "dilation", "padding", "stride")
    )
    x: Name = op.unsqueeze(op.x, 0) if single else op.x
    if any(padding):
        x = padded(op, x, 4, {axis + 2: (one, one) for axis, one in enumerate(padding)}, "constant")
    for place, axis in enumerate((2, 4)):
        size = op.integer("add", op.size(op.x, op.x.rank - 2 + place), 2 * padding[place])
        places = window_places(op, size, kernel[place], stride[place], dilation[place])
        x = op.add("Gather", x, op.add("Transpose", places, perm=[1, 0]), axis=axis)
    apart = op.add("Transpose", x, perm=[0, 1, 2, 4, 3, 5])
    rows = op.out.shape[op.out.rank - 2]
    if rows is None:
        op.refuse("of channels whose number is known at run time only")
    patches = op.out.shape[-1]
    result = op.add("Reshape", apart, op.vector([0, rows, -1] if patches is None else [-1, rows, patches]))
    return op.squeeze(result, 0) if single else result


def _fold(op: Op) -> str:
    single = op.x.rank == 2
    kernel, dilation, padding, stride = (
        _pair(getattr(op.params, name)) for name in ("kernel_size", "dilation", "padding", "stride")
    )
    size = [op.dim(one) for one in _pair(op.params.output_size)]
    image = op.add(
        "Col2Im",
        op.unsqueeze(op.x, 0) if single else op.x,
        op.vector(size),
        op.vector(kernel),
        dilations=dilation,
        pads=[*padding, *padding],
        strides=stride,
    )
    return op.squeeze(image, 0) if single else image


def _grid_sample(op: Op) -> str:
    x, grid = reversed(op.inputs) if op.params.reversed else op.inputs
    if x.rank != 4:
        op.refuse(f"of {x.rank} axes: opset 18 samples images only")
    corners = int(bool(op.params.align_corners))
    return op.add("GridSample", x, grid, mode=op.params.mode, padding_mode=op.params.padding_mode, align_corners=corners)


def _affine_grid(op: Op) -> str:
    """The grid of the identity, a row (x, y, 1) for each place, times the transposed map of each sample."""
    if len(op.params.size) != 4:
        op.refuse("of volumes")
    height, width = (op.known(one, "the size of the grid") for one in op.params.size[2:])
    x, y = (_places(one, bool(op.params.align_corners)) for one in (width, height))
    rows = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones(height * width)], 1).to(op.x.dtype)
    grid = op.add("MatMul", op.constant(rows), op.add("Transpose", op.x, perm=[0, 2, 1]))
    return op.add("Reshape", grid, op.vector([-1, height, width, 2]))


def _places(count: int, corners: bool) -> torch.Tensor:
    line = torch.linspace(-1.0, 1.0, count, dtype=torch.float64) if count > 1 else torch.zeros(1, dtype=torch.float64)
    return (line if corners else line * (count - 1) / count).float()


EMITTERS: dict[str, Emitter] = {
    "vn.interpolate": _interpolate,
    "vn.pad": _pad,
    "vn.pixel_shuffle": _pixel_shuffle,
    "vn.pixel_unshuffle": _pixel_unshuffle,
    "vn.channel_shuffle": _channel_shuffle,
    "vn.unfold": _unfold,
    "vn.fold": _fold,
    "vn.grid_sample": _grid_sample,
    "vn.affine_grid": _affine_grid,
}
