"""Second moments of layers' inputs and responses: streamed sums that stand for the samples in every least-squares fit.

Notation of the docstrings: x is a patch of a layer's input (m entries, or m per group), y its response (n entries), both per
output position; N samples. A fit `y ~ B x + b` needs only the means and the centred moments `G = E[(x - mx)(x - mx)^T]`, `C =
E[(x - mx)(y - my)^T]` and `Q = E[(y - my)(y - my)^T]`; then `b = my - B mx`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from amc_plugins.core.errors import GraphError, SettingsError
from amc_plugins.core.network import ReconstructedNetwork, handler_for, walk
from amc_plugins.core.sampling import position_generator, sampled_positions

if TYPE_CHECKING:
    from amc_plugins.core.calibration import Calibration
    from amc_plugins.handlers import LinearMap

__all__ = [
    "MEMORY",
    "LayerMoments",
    "Moments",
    "accumulate",
    "collect_moments",
    "linear_map",
    "moments_bytes",
]

MEMORY = 4 << 30
"""Bytes that the moments of one pass may take; more layers go through in several passes."""
ENOUGH = 10
"""Samples per unknown below which a fit is warned about (held-out error + 6 % at 10, + 2 % at 20, measured)."""
_BLOCK_ELEMENTS = 1 << 23
_ROWS = 512
"""Rows of one matrix product. The error of float32 sums grows with their length, on some processors linearly."""
_WIDE, _STRIP = 1024, 512
"""Of x with more entries only the upper triangle of x x^T is summed, in strips of so many rows: a third of the time."""

_log = logging.getLogger(__name__)


class Moments:
    """Sums over samples of x, and of pairs (x, y) when `outputs` is given: products in the data's precision, sums in float64.

    Everything is taken about the mean of the first batch, which keeps the centred moments positive definite when the mean is
    far from zero. x and y may come from different networks (the asymmetric form).

    Args:
        inputs: entries of x, all groups together.
        outputs: entries of y; 0 when y is not needed.
        groups: x and y are cut into so many equal parts, each with moments of its own (a grouped convolution).
    """

    def __init__(self, inputs: int, outputs: int = 0, *, groups: int = 1, device: torch.device | str = "cpu") -> None:
        self.inputs, self.outputs, self.groups = inputs, outputs, groups
        self.count = 0
        m, n = inputs // groups, outputs // groups
        self._wide = m > _WIDE
        options: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self._shift_x = torch.zeros(inputs, **options)
        self._shift_y = torch.zeros(outputs, **options)
        self._sum_x = torch.zeros(inputs, **options)
        self._sum_y = torch.zeros(outputs, **options)
        self._xx = torch.zeros(groups, m, m, **options)
        self._xy = torch.zeros(groups, m, n, **options)
        self._yy = torch.zeros(groups, n, n, **options)

    def update(self, x: Tensor, y: Tensor | None = None) -> None:
        """Add samples: x (R, inputs) and, when outputs are counted, y (R, outputs), row by row the same sample."""
        x = _precise(x)
        if x.shape[1] != self.inputs or (y is None) != (self.outputs == 0):
            given = f"x {tuple(x.shape)} and y {None if y is None else tuple(y.shape)}"
            raise GraphError(f"these moments take x of {self.inputs} and y of {self.outputs} entries, given were {given}")
        if not len(x):
            return
        if self.count == 0:
            self._shift_x = x.mean(0).double()
        x = x - self._shift_x.to(x.dtype)
        self._sum_x += x.sum(0, dtype=torch.float64)
        if self._wide:
            self._add_squares(x)
        else:
            self._xx += self._products(x, x)
        if y is not None:
            y = _precise(y)
            if self.count == 0:
                self._shift_y = y.mean(0).double()
            y = y - self._shift_y.to(y.dtype)
            self._sum_y += y.sum(0, dtype=torch.float64)
            self._xy += self._products(x, y.to(x.dtype))
            self._yy += self._products(y, y)
        self.count += len(x)

    def _products(self, x: Tensor, y: Tensor) -> Tensor:
        """Sums over the rows of x^T y, (groups, m, n), float64; at most `_ROWS` products are added in their own precision."""
        total: Tensor | None = None
        for some_x, some_y in zip(x.split(_ROWS), y.split(_ROWS), strict=True):
            grouped_x, grouped_y = (one.reshape(len(one), self.groups, -1).transpose(0, 1) for one in (some_x, some_y))
            added = (grouped_x.transpose(1, 2) @ grouped_y).double()
            total = added if total is None else total.add_(added)
        assert total is not None
        return total

    def _add_squares(self, x: Tensor) -> None:
        """As `_products(x, x)`, added to `_xx` on and above the diagonal; what is below it is not used."""
        for some in x.split(_ROWS):
            grouped = some.reshape(len(some), self.groups, -1).transpose(0, 1)
            for start in range(0, grouped.shape[2], _STRIP):
                left = grouped[:, :, start : start + _STRIP].transpose(1, 2)
                self._xx[:, start : start + _STRIP, start:] += left @ grouped[:, :, start:]

    def merge(self, other: Moments) -> None:
        """Add another's samples, whatever its shift."""
        if (self.inputs, self.outputs, self.groups) != (other.inputs, other.outputs, other.groups):
            raise GraphError("moments of different shapes cannot be merged")
        if other.count == 0:
            return
        if self.count == 0:
            self._shift_x, self._shift_y = other._shift_x.clone(), other._shift_y.clone()
        dx, dy = other._shift_x - self._shift_x, other._shift_y - self._shift_y
        gx, gy, sx, sy = (self._split(one) for one in (dx, dy, other._sum_x, other._sum_y))
        self._xx += other._xx + _outer(sx, gx) + _outer(gx, sx) + other.count * _outer(gx, gx)
        self._xy += other._xy + _outer(sx, gy) + _outer(gx, sy) + other.count * _outer(gx, gy)
        self._yy += other._yy + _outer(sy, gy) + _outer(gy, sy) + other.count * _outer(gy, gy)
        self._sum_x += other._sum_x + other.count * dx
        self._sum_y += other._sum_y + other.count * dy
        self.count += other.count

    @property
    def mean_x(self) -> Tensor:
        """(inputs,)"""
        return self._shift_x + self._sum_x / self._samples

    @property
    def mean_y(self) -> Tensor:
        """(outputs,)"""
        return self._shift_y + self._sum_y / self._samples

    @property
    def gram(self) -> Tensor:
        """G: (m, m), or (groups, m, m) when there are several groups. Symmetric."""
        return self._centred(self._xx, self._sum_x, self._sum_x)

    @property
    def cross(self) -> Tensor:
        """C: (m, n), or (groups, m, n)."""
        return self._centred(self._xy, self._sum_x, self._sum_y)

    @property
    def output_gram(self) -> Tensor:
        """Q: (n, n), or (groups, n, n): within groups only."""
        return self._centred(self._yy, self._sum_y, self._sum_y)

    @property
    def per_unknown(self) -> float:
        """Samples per unknown of one response's fit."""
        return self.count * self.groups / self.inputs

    @property
    def _samples(self) -> int:
        if self.count == 0:
            raise GraphError("there are no samples in these moments")
        return self.count

    def _split(self, flat: Tensor) -> Tensor:
        return flat.reshape(self.groups, -1)

    def _centred(self, products: Tensor, left: Tensor, right: Tensor) -> Tensor:
        means = self._split(left) / self._samples, self._split(right) / self._samples
        centred = (products / self._samples).baddbmm_(means[0][:, :, None], means[1][:, None, :], alpha=-1.0)
        if products is self._xx and self._wide:
            centred = centred.triu_().add_(centred.triu(1).transpose(1, 2))
        elif left is right:
            centred = 0.5 * (centred + centred.transpose(1, 2))
        return centred[0] if self.groups == 1 else centred


@dataclass
class LayerMoments:
    """A layer's moments with what a fit needs to know of it. Responses are the layer's own: before BN and activation."""

    name: str
    weight: Tensor
    """(n, m) float64, m = in_channels / groups * taps, channel-major."""
    bias: Tensor
    """(n,) float64; zeros when the layer has none."""
    in_channels: int
    out_channels: int
    taps: int
    groups: int
    moments: Moments

    @property
    def gram(self) -> Tensor:
        return self.moments.gram

    @property
    def mean_x(self) -> Tensor:
        return self.moments.mean_x

    @property
    def mean_y(self) -> Tensor:
        """W mean_x + b, exact; or the collected mean when y was collected."""
        if self.moments.outputs:
            return self.moments.mean_y
        return (self._grouped_weight @ self.mean_x.reshape(self.groups, -1, 1)).reshape(-1) + self.bias

    @property
    def cross(self) -> Tensor:
        """C; from the weights when y was not collected: `C = G W^T`."""
        return self.centred()[1]

    @property
    def output_gram(self) -> Tensor:
        """Q; from the weights when y was not collected: `Q = W G W^T`."""
        return self.centred()[2]

    def centred(self) -> tuple[Tensor, Tensor, Tensor]:
        """G, C and Q at once: for wide layers, making G takes as long as using it."""
        gram = self.moments.gram
        if self.moments.outputs:
            return gram, self.moments.cross, self.moments.output_gram
        weight = self._grouped_weight
        cross = (gram[None] if self.groups == 1 else gram) @ weight.transpose(1, 2)
        spread = weight @ cross
        return gram, self._squeezed(cross), self._squeezed(0.5 * (spread + spread.transpose(1, 2)))

    @property
    def _grouped_weight(self) -> Tensor:
        return self.weight.reshape(self.groups, -1, self.weight.shape[1])

    def _squeezed(self, stacked: Tensor) -> Tensor:
        return stacked[0] if self.groups == 1 else stacked


def linear_map(network: ReconstructedNetwork, layer: str) -> LinearMap | None:
    """The layer as a linear map from patches to responses, or None when it is not one."""
    node = network.nodes_of(layer)[0]
    return handler_for(node.op).linear(network.layer(layer))


def moments_bytes(linear: LinearMap, *, outputs: bool = False) -> int:
    """Memory of a layer's moments, with or without those of y."""
    m, n = linear.weight.shape[1], linear.out_channels // linear.groups
    return 8 * linear.groups * (m * m + (m * n + n * n if outputs else 0))


def collect_moments(
    network: ReconstructedNetwork,
    calibration: Calibration,
    layers: Iterable[str],
    *,
    per_sample: int | None = None,
    seed: int = 0,
    memory: int = MEMORY,
    progress: Callable[[str], None] | None = None,
) -> dict[str, LayerMoments]:
    """Input moments of several layers of one network: one pass over the data for as many layers as fit into `memory`.

    y is not collected: where input and response are of the same network, its moments follow from G and the weights. A layer
    that the network calls several times gets the samples of all calls.

    Args:
        per_sample: output positions to draw per sample and layer (all, on maps of up to 64); None draws as many as make
            30 samples per unknown of the whole set (15 where patches have more than 2048 entries), at least 10 or what
            makes 20000 in all.
        seed: of the positions; a layer's do not depend on the other layers.
        progress: called with each layer's name when its moments are complete.

    Raises:
        GraphError: a layer does not exist or is no linear map.
        SettingsError: the moments of one layer alone exceed `memory`.
    """
    maps: dict[str, LinearMap] = {}
    for name in layers:
        found = linear_map(network, name)
        if found is None:
            raise GraphError(f"layer `{name}` ({network.nodes_of(name)[0].op}) is no linear map: it has no patches")
        maps[name] = found
    if any(module.training for module in network.modules()):
        network = network.clone().eval()
    collected: dict[str, LayerMoments] = {}
    for part in _batched(network, maps, memory):
        collected |= _one_pass(network, calibration, part, per_sample, seed)
        if progress is not None:
            for name in part:
                progress(name)
    warn_about_samples({name: one.moments for name, one in collected.items()})
    return {name: collected[name] for name in maps}


def warn_about_samples(collected: dict[str, Moments]) -> None:
    """Log the layers that have fewer than ten samples per unknown."""
    few = {name: one.per_unknown for name, one in collected.items() if one.per_unknown < ENOUGH}
    if few:
        listed = ", ".join(f"{name} ({ratio:.1f})" for name, ratio in few.items())
        _log.warning("fewer than %d samples per unknown: %s; give more calibration data or sample more pixels", ENOUGH, listed)


def _batched(network: ReconstructedNetwork, maps: dict[str, LinearMap], memory: int) -> Iterator[dict[str, LinearMap]]:
    part: dict[str, LinearMap] = {}
    filled = 0
    for name in network.layer_names:
        if name not in maps:
            continue
        size = moments_bytes(maps[name])
        if size > memory:
            raise SettingsError(
                f"the moments of layer `{name}` take {size / 2**30:.1f} GiB, more than the cap of {memory / 2**30:.1f} GiB",
                hint="leave the layer out, or raise the cap",
            )
        if part and filled + size > memory:
            yield part
            part, filled = {}, 0
        part[name] = maps[name]
        filled += size
    if part:
        yield part


def _one_pass(
    network: ReconstructedNetwork, calibration: Calibration, maps: dict[str, LinearMap], per_sample: int | None, seed: int
) -> dict[str, LayerMoments]:
    collected = {name: _empty(name, one) for name, one in maps.items()}
    generators = {name: position_generator(name, seed) for name in maps}
    calls = sum(node.layer in maps for node in network.graph.nodes)
    total = len(calibration)
    with torch.no_grad():
        for inputs in calibration.chunks(network):
            left = calls
            for step in walk(network, inputs):
                name = step.node.layer
                if name not in maps:
                    continue
                shape = tuple(step.outputs[0].shape)
                pixels = math.prod(shape) // (shape[0] * maps[name].out_channels)
                positions = sampled_positions(maps[name], shape, pixels, per_sample, total, generators[name])
                accumulate(collected[name].moments, maps[name], step.inputs[0], positions)
                left -= 1
                if left == 0:
                    break
    return collected


def _empty(name: str, one: LinearMap) -> LayerMoments:
    weight = one.weight.detach().double()
    bias = weight.new_zeros(one.out_channels) if one.bias is None else one.bias.detach().double()
    moments = Moments(weight.shape[1] * one.groups, groups=one.groups, device=weight.device)
    return LayerMoments(name, weight, bias, one.in_channels, one.out_channels, one.taps, one.groups, moments)


def accumulate(moments: Moments, linear: LinearMap, x: Tensor, positions: Tensor, y: Tensor | None = None) -> None:
    """Add the patches of `x`, and the responses `y` beside them, at the given output positions, in blocks of bounded memory."""
    rows = max(1, _BLOCK_ELEMENTS // moments.inputs)
    for block in positions.to(x.device).split(rows):
        responses = None if y is None else linear.responses(y, block)
        moments.update(linear.patches(x, block), responses)


def _precise(samples: Tensor) -> Tensor:
    return samples if samples.dtype in (torch.float32, torch.float64) else samples.float()


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left[:, :, None] * right[:, None, :]
