"""Which layers can be decomposed, why others cannot, and what a decomposition needs to know of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from amc_plugins.compression import MEMORY, LayerView, following_norm, linear_map, moments_bytes, norm_gain
from amc_plugins.graph import ReconstructedNetwork, consumers, profile, shapes
from amc_plugins.handlers import LinearMap, assign_tensors

__all__ = ["LayerInfo", "find_layers"]

_IMAGE_CHANNELS = 4


@dataclass
class LayerInfo:
    """A layer that can be decomposed. m = c * taps is the length of its patches, n the number of its responses."""

    name: str
    op: str
    value: str
    """The value it makes."""
    macs: int
    weight: Tensor
    """(n, m) float64."""
    bias: Tensor
    """(n,) float64; zeros when it has none."""
    kernel: tuple[int, int] | None
    """None for a linear layer."""
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    padding_mode: Literal["zeros", "reflect", "replicate", "circular"]
    in_map: tuple[int, int]
    """Height and width of its input; (1, 1) for a linear layer."""
    out_map: tuple[int, int]
    scale: Tensor
    """(n,) |gamma| / sigma of the BN that follows, else ones: what a unit of the response is behind it."""
    metric: Tensor
    """F (n, n): every error e is measured as ||F e||^2. Diagonal with `scale` until a Fisher metric is set."""
    metric_inverse: Tensor
    trainable: bool
    dtype: torch.dtype
    _fisher_per_metric: float | None = None
    features: dict[str, float] = field(default_factory=dict)

    @property
    def m(self) -> int:
        return self.weight.shape[1]

    @property
    def n(self) -> int:
        return self.weight.shape[0]

    @property
    def taps(self) -> int:
        return 1 if self.kernel is None else math.prod(self.kernel)

    @property
    def channels(self) -> int:
        return self.m // self.taps

    @property
    def spatial(self) -> bool:
        """Whether the kernel extends in both directions."""
        return self.kernel is not None and min(self.kernel) > 1

    def weigh(self, fisher: Tensor, share: float) -> None:
        """Measure errors in the Fisher metric D (n, n) of the outputs, plus `share` of the plain metric behind the BN.

        D is brought to the plain metric's trace first. A D of zeros (nothing depends on the layer) changes nothing.
        """
        behind = fisher / self.scale[:, None] / self.scale
        trace = float(behind.trace())
        if trace <= 0.0:
            return
        behind = behind * (self.n / trace)
        behind.diagonal().add_(share)
        squared = self.scale[:, None] * behind * self.scale
        factor, _ = torch.linalg.cholesky_ex(0.5 * (squared + squared.T))
        identity = torch.eye(self.n, dtype=fisher.dtype, device=fisher.device)
        self.metric = factor.T.contiguous()
        self.metric_inverse = torch.linalg.solve_triangular(self.metric, identity, upper=True)
        self._fisher_per_metric = trace / self.n

    def importance(self, output_gram: Tensor) -> float:
        """The outputs' expected divergence per unit of relative error, for responses of these moments Q (n, n); 1 if unknown.

        Errors of different positions are taken as independent: `sum over positions of tr(D E[e e^T]) / 2`.
        """
        if self._fisher_per_metric is None:
            return 1.0
        positions = self.macs / (self.m * self.n)
        return 0.5 * positions * self._fisher_per_metric * float(((self.metric @ output_gram) * self.metric).sum())

    def pointwise(self, weight: Tensor, bias: Tensor | None) -> nn.Module:
        """A layer of the same family that mixes channels at one position: weight (n', d)."""
        if self.kernel is None:
            outputs, inputs = weight.shape
            return self._finished(nn.Linear(inputs, outputs, bias is not None, device="meta"), weight, bias)
        return self.part(weight[:, :, None, None], bias, rows=False, columns=False)

    def first(self, weight: Tensor) -> nn.Module:
        """The layer itself with other filters (d, m) and no bias."""
        if self.kernel is None:
            return self.pointwise(weight, None)
        return self.part(weight.reshape(len(weight), -1, *self.kernel), None)

    def part(self, weight: Tensor, bias: Tensor | None, *, rows: bool = True, columns: bool = True) -> nn.Module:
        """A convolution (o, i, kh, kw) with the layer's stride, padding and dilation along rows, columns, both or neither."""
        outputs, inputs, *kernel = weight.shape
        chosen = rows, columns
        padding: Any = "valid"
        if rows or columns:
            padding = self.padding if isinstance(self.padding, str) else _pick(self.padding, chosen, 0)
        module = nn.Conv2d(
            inputs,
            outputs,
            (kernel[0], kernel[1]),
            stride=_pick(self.stride, chosen, 1),
            padding=padding,
            dilation=_pick(self.dilation, chosen, 1),
            bias=bias is not None,
            padding_mode=self.padding_mode,
            device="meta",
        )
        return self._finished(module, weight, bias)

    def _finished(self, module: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
        tensors = {"weight": weight.to(self.dtype).contiguous()}
        if bias is not None:
            tensors["bias"] = bias.to(self.dtype)
        assign_tensors(module, tensors)
        return module.requires_grad_(self.trainable)


def _pick(pair: tuple[int, int], chosen: tuple[bool, bool], neutral: int) -> tuple[int, int]:
    return (pair[0] if chosen[0] else neutral, pair[1] if chosen[1] else neutral)


def find_layers(network: ReconstructedNetwork) -> tuple[list[LayerInfo], list[LayerView]]:
    """The layers that can be decomposed, and the view of every layer with MACs; the views' `variables` are empty."""
    costs: dict[str, int] = {}
    for row in profile(network).rows:
        costs[row.layer] = costs.get(row.layer, 0) + (row.macs or 0)
    sizes = shapes(network)
    infos: list[LayerInfo] = []
    views: list[LayerView] = []
    image_readers = {node.layer for spec in network.graph.inputs for node in consumers(network, spec.name)}
    for name, macs in costs.items():
        if macs == 0:
            continue
        node = network.nodes_of(name)[0]
        linear = linear_map(network, name)
        why_not = _why_not(network, name, linear, name in image_readers)
        views.append(LayerView(name, node.op, macs, (), why_not))
        if why_not is None and linear is not None:
            info = _info(network, name, linear, macs, sizes)
            info.features["index"] = float(len(infos))
            infos.append(info)
    return infos, views


def _why_not(network: ReconstructedNetwork, name: str, linear: LinearMap | None, reads_image: bool) -> str | None:
    nodes, module = network.nodes_of(name), network.layer(name)
    if linear is None:
        return f"{nodes[0].op} is no linear map from patches to responses"
    if linear.groups > 1:
        kind = "depthwise" if linear.groups == linear.in_channels else f"grouped ({linear.groups} groups)"
        return f"{kind} convolution: its groups have next to nothing in common to factor out"
    if type(module) not in (nn.Conv2d, nn.Linear):
        return f"there is no pointwise layer to put behind a {type(module).__name__}"
    if len(nodes) > 1:
        return f"runs {len(nodes)} times: one chain cannot stand for several calls"
    if isinstance(module, nn.Conv2d) and (reads_image and linear.in_channels <= _IMAGE_CHANNELS):
        return f"first convolution: {linear.in_channels} input channels leave nothing to factor out"
    if moments_bytes(linear) > MEMORY:
        return f"its statistics take {moments_bytes(linear) / 2**30:.1f} GiB, above the cap of {MEMORY / 2**30:.0f} GiB"
    n, m = linear.weight.shape
    if n + m >= n * m:
        return "no rank makes it cheaper"
    if not linear.weight.is_floating_point():
        return f"weights of {linear.weight.dtype} cannot be decomposed"
    return None


def _info(
    network: ReconstructedNetwork, name: str, linear: LinearMap, macs: int, sizes: Mapping[str, tuple[int, ...]]
) -> LayerInfo:
    (node,) = network.nodes_of(name)
    module: Any = network.layer(name)
    convolution = isinstance(module, nn.Conv2d)
    weight = linear.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach().double()
    in_shape, out_shape = sizes[node.inputs[0]], sizes[node.outputs[0]]
    scale = _scale(network, name, weight)
    info = LayerInfo(
        name=name,
        op=node.op,
        value=node.outputs[0],
        macs=macs,
        weight=weight,
        bias=bias,
        kernel=tuple(module.kernel_size) if convolution else None,
        stride=tuple(module.stride) if convolution else (1, 1),
        padding=_padding(module.padding) if convolution else (0, 0),
        dilation=tuple(module.dilation) if convolution else (1, 1),
        padding_mode=module.padding_mode if convolution else "zeros",
        in_map=(in_shape[-2], in_shape[-1]) if convolution else (1, 1),
        out_map=(out_shape[-2], out_shape[-1]) if convolution else (1, 1),
        scale=scale,
        metric=scale.diag(),
        metric_inverse=scale.reciprocal().diag(),
        trainable=bool(module.weight.requires_grad),
        dtype=module.weight.dtype,
    )
    info.features = {
        "in_channels": float(linear.in_channels),
        "out_channels": float(linear.out_channels),
        "kernel": math.sqrt(linear.taps),
        "stride": float(info.stride[0]),
        "height": float(info.out_map[0]),
        "width": float(info.out_map[1]),
        "convolution": float(convolution),
        "macs": float(macs),
    }
    return info


def _padding(amounts: Any) -> tuple[int, int] | str:
    return amounts if isinstance(amounts, str) else (amounts[0], amounts[1])


def _scale(network: ReconstructedNetwork, layer: str, weight: Tensor) -> Tensor:
    """|gamma| / sigma per channel of the BN that alone reads the response, else ones."""
    norm = following_norm(network, layer)
    if norm is None:
        return weight.new_ones(len(weight))
    scale = norm_gain(network, norm).abs()
    # a channel that BN has switched off still gets a fit, of next to no weight
    return scale.clamp_min(1e-4 * float(scale.max())) if float(scale.max()) > 0 else torch.ones_like(scale)
