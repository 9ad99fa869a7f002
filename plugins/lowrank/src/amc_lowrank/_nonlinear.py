"""Responses fitted through the ReLU or ReLU6 behind them: what it clips need not be reproduced.

Zhang, Zou, He and Sun, TPAMI 2015, section 3.2: `min E||r(y) - r(z)||^2 + lambda ||z - y'||^2` over free responses z and the
approximation y', in turns. z has a closed form entry by entry; y' is a least-squares fit to z. Here y' is free in the last
layer of a chain, whatever the scheme, and starts from the linear fit. A response keeps the linear fit unless the other one is
better on samples that were not fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amc_plugins.compression import following_norm, norm_gain, norm_module, solve_gram
from amc_plugins.document import tree_leaves
from amc_plugins.graph import ReconstructedNetwork, consumers
from amc_plugins.handlers import LinearMap

__all__ = ["Clip", "fitted_through", "following_clip", "nearest_responses"]

_CEILINGS = {"vn.relu": math.inf, "vn.relu6": 6.0}
_SCHEDULE = ((0.1, 10), (1.0, 10))
"""lambda and rounds; longer ones end within a per cent of it."""
_ROWS, _ROWS_PER_UNKNOWN = 10_000, 30
_HELD_OUT = 4
"""One row in so many judges the fit."""


@dataclass(frozen=True)
class Clip:
    """`clamp(gain y + shift, 0, ceiling)` of a response y: the batch norm behind it, if there is one, and the activation."""

    gain: Tensor
    """(n,) float64."""
    shift: Tensor
    ceiling: float

    def __call__(self, y: Tensor) -> Tensor:
        return (y * self.gain + self.shift).clamp(0.0, self.ceiling)


def following_clip(network: ReconstructedNetwork, layer: str) -> Clip | None:
    """What clips a layer's response before anything else reads it; None when nothing does."""
    node = network.nodes_of(layer)[0]
    weight = network.layer(layer).get_parameter("weight")
    value, norm = node.outputs[0], following_norm(network, layer)
    gain = torch.ones(len(weight), dtype=torch.float64, device=weight.device)
    shift = torch.zeros_like(gain)
    if norm is not None:
        module, gain = norm_module(network, norm), norm_gain(network, norm)
        assert module.running_mean is not None
        shift = -gain * module.running_mean.double()
        if module.bias is not None:
            shift = shift + module.bias.detach().double()
        value = network.nodes_of(norm)[0].outputs[0]
    readers = consumers(network, value)
    if len(readers) != 1 or readers[0].op not in _CEILINGS or value in tree_leaves(network.graph.outputs):
        return None
    return Clip(gain, shift, _CEILINGS[readers[0].op])


def nearest_responses(u: Tensor, t: Tensor, penalty: float, ceiling: float) -> Tensor:
    """z of least `(t - clamp(z, 0, ceiling))^2 + penalty (z - u)^2`, entry by entry; t is a clipped target."""
    below, inside, above = u.clamp(max=0.0), ((penalty * u + t) / (1.0 + penalty)).clamp(0.0, ceiling), u.clamp(min=ceiling)
    best, least = inside, (inside - t).square() + penalty * (inside - u).square()
    for trial, clipped in ((below, 0.0), (above, ceiling)):
        if math.isfinite(clipped):
            cost = (t - clipped).square() + penalty * (trial - u).square()
            best, least = torch.where(cost < least, trial, best), torch.minimum(cost, least)
    return best


def fitted_through(
    clip: Clip,
    chain: Sequence[nn.Module],
    last: LinearMap,
    pairs: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    *,
    samples: int,
    generator: torch.Generator,
) -> nn.Module:
    """The last layer of a fitted chain, fitted through `clip`.

    Args:
        chain: the layers before it.
        last: it, as the linear fit left it; it has a bias.
        pairs: the chain's inputs and the responses it should have, chunk by chunk.
        samples: of all chunks together.
    """
    wanted = max(_ROWS, _ROWS_PER_UNKNOWN * last.weight.shape[1])
    rows, targets = [], []
    for given, y in pairs():
        x = given
        for module in chain:
            x = module(x)
        positions = last.positions(tuple(y.shape), math.ceil(wanted / samples), generator).to(x.device)
        rows.append(last.patches(x, positions))
        targets.append(last.responses(y, positions))
    features, responses = torch.cat(rows).double(), torch.cat(targets).double()
    assert last.bias is not None
    weight, bias = last.weight.detach().double(), last.bias.detach().double()
    held_out = torch.arange(len(features), device=features.device) % _HELD_OUT == 0
    wanted_here, judged = clip(responses[~held_out]), clip(responses[held_out])
    fitted, unseen = features[~held_out], features[held_out]

    def errors(weight: Tensor, bias: Tensor) -> Tensor:
        return (clip(unseen @ weight.T + bias) - judged).square().sum(0)

    best_weight, best_bias, least = weight, bias, errors(weight, bias)
    mean = fitted.mean(0)
    centred = fitted - mean
    gram = centred.T @ centred / len(fitted)
    live = clip.gain.abs() > 1e-6 * clip.gain.abs().max()
    for penalty, rounds in _SCHEDULE:
        for _ in range(rounds):
            u = (fitted @ weight.T + bias) * clip.gain + clip.shift
            step = nearest_responses(u, wanted_here, penalty, clip.ceiling) - u
            step = torch.where(live, step / torch.where(live, clip.gain, 1.0), 0.0)
            change = solve_gram(gram, centred.T @ step / len(fitted), per_unknown=len(fitted) / len(gram)).T
            weight, bias = weight + change, bias + step.mean(0) - change @ mean
            now = errors(weight, bias)
            better = now < least
            best_weight = torch.where(better[:, None], weight, best_weight)
            best_bias, least = torch.where(better, bias, best_bias), torch.minimum(now, least)
    return last.rebuilt(best_weight.to(last.weight.dtype), best_bias.to(last.weight.dtype))
