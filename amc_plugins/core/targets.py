"""What the layers of a compressed network should respond, beside the original, and the weights that come nearest to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from amc_plugins.core.edit import consumers
from amc_plugins.core.installing import linear_at
from amc_plugins.core.moments import linear_map
from amc_plugins.core.norms import following_norm, norm_gain
from amc_plugins.core.solves import solve_gram
from amc_plugins.core.stepping import Target

if TYPE_CHECKING:
    from amc_plugins.core.channels import ChannelMap
    from amc_plugins.core.moments import Moments
    from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["kept_rows", "nearest_weights", "response_targets", "tainted_values"]


def tainted_values(network: ReconstructedNetwork, changed: Iterable[str]) -> set[str]:
    """The values that differ from the original's once the layers `changed` have other weights."""
    layers, found = set(changed), set[str]()
    for node in network.graph.nodes:
        if node.layer in layers or found.intersection(node.inputs):
            found.update(node.outputs)
    return found


def kept_rows(channels: ChannelMap, layer: str, removed: Tensor) -> Tensor:
    """The positions of a linear map's output channels that stay."""
    value = channels.network.nodes_of(layer)[0].outputs[0]
    axis = linear_at(channels.network, layer).input_axis
    ids = channels.values[value].movedim(axis, 0).flatten(1)[:, 0]
    return (~torch.isin(ids.expand(channels.shapes[value][axis]), removed)).nonzero().flatten()


def response_targets(channels: ChannelMap, changed: Iterable[str], removed: Tensor) -> dict[str, Target]:
    """What each linear map that is changed, or sees a changed input, should respond: by layer of `channels.network`.

    The last layer of a residual branch makes up for the error of the other input of the sum (He, Zhang and Sun, ICCV 2017,
    section 3.3); of two branches that both end in a layer, the first to run does.
    """
    network = channels.network
    tainted = tainted_values(network, changed)
    corrected: set[str] = set()
    found: dict[str, Target] = {}
    for node in network.graph.nodes:
        if not tainted.intersection(node.outputs) or len(network.nodes_of(node.layer)) != 1:
            continue
        if linear_map(network, node.layer) is None:
            continue
        rows = kept_rows(channels, node.layer, removed)
        whole = channels.shapes[node.outputs[0]][linear_at(network, node.layer).input_axis]
        kept = None if len(rows) == whole else rows
        branch = _branch(channels, node.layer)
        if branch is None or branch[0] in corrected or branch[1] not in tainted:
            found[node.layer] = Target(node.outputs[0], kept)
            continue
        total, other, scale = branch
        corrected.add(total)
        scale = None if scale is None else scale[rows.to(scale.device)]
        found[node.layer] = Target(node.outputs[0], kept, (other, other), scale)
    return found


def _branch(channels: ChannelMap, layer: str) -> tuple[str, str, Tensor | None] | None:
    """The sum that a layer (with the batch norm after it) goes straight into: its value, its other input, and sigma / gamma."""
    network = channels.network
    end, scale = network.nodes_of(layer)[0].outputs[0], None
    norm = following_norm(network, layer)
    if norm is not None:
        gain = norm_gain(network, norm)
        if bool((gain.abs() <= 1e-4 * gain.abs().max()).any()):
            return None  # a channel that the norm blots out cannot carry a correction
        scale = 1.0 / gain
        end = network.nodes_of(norm)[0].outputs[0]
    readers = consumers(network, end)
    if len(readers) != 1 or len(readers[0].inputs) != 2 or readers[0].symbols or readers[0].inputs.count(end) != 1:
        return None
    other = next(name for name in readers[0].inputs if name != end)
    if channels.shapes.get(other) != channels.shapes[end] or not _adds(network.layer(readers[0].layer), channels.shapes[end]):
        return None
    return readers[0].outputs[0], other, scale


def _adds(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a layer of two inputs gives their sum."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for _ in range(2))
    try:
        made = module(a, b)
    except (RuntimeError, TypeError, ValueError):
        return False
    return isinstance(made, Tensor) and torch.equal(made, a + b)


def nearest_weights(
    moments: Moments, weight: Tensor, groups: int, ridge: float, *, by_variance: bool = False
) -> tuple[Tensor, Tensor, float]:
    """Least squares, drawn to the present weights instead of to zero where the data say nothing.

    Args:
        moments: of the inputs (of the compressed network) and the targets.
        weight: (n, m) the present weights.
        ridge, by_variance: relative to the mean of G's diagonal, or to an entry's own variance where that is above; see
            `cholesky`.

    Returns: weights (n, m), constants (n,), and the relative squared error on the data.
    """
    gram, cross, spread = (one if groups > 1 else one[None] for one in (moments.gram, moments.cross, moments.output_gram))
    present = weight.double().reshape(groups, -1, weight.shape[1]).transpose(1, 2)
    missing = cross - gram @ present
    change = [
        solve_gram(g, c, per_unknown=moments.per_unknown, ridge=ridge, by_variance=by_variance)
        for g, c in zip(gram, missing, strict=True)
    ]
    solved = present + torch.stack(change)
    total = float(spread.diagonal(dim1=1, dim2=2).sum())
    error = total - 2 * float((cross * solved).sum()) + float(((gram @ solved) * solved).sum())
    flat = solved.transpose(1, 2).reshape(weight.shape)
    means = moments.mean_x.reshape(groups, -1, 1)
    constant = moments.mean_y - (flat.reshape(groups, -1, flat.shape[1]) @ means).flatten()
    return flat, constant, max(0.0, error) / total if total > 0 else 0.0
