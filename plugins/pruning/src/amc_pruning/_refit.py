"""After the choice: fitting the pruned network layer by layer on its own activations, then its batch norms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from amc_plugins.compression import Calibration, Divergence, Moments, Target, match_responses, refit_sequentially
from amc_plugins.graph import ChannelMap, ReconstructedNetwork, consumers, handler_for
from amc_pruning._install import install, linear_of
from amc_pruning._problems import factor, following_norm, norm_module

__all__ = ["fitted_weight", "kept_rows", "reestimated_norms", "refit", "residual_targets", "tainted_values"]

_JUDGED = 1024
"""Samples that statistics are renewed and compared on: means and variances need no more."""
_Norm = nn.modules.batchnorm._BatchNorm


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
    axis = linear_of(channels.network, layer).input_axis
    ids = channels.values[value].movedim(axis, 0).flatten(1)[:, 0]
    return (~torch.isin(ids.expand(channels.shapes[value][axis]), removed)).nonzero().flatten()


def residual_targets(channels: ChannelMap, changed: Iterable[str], removed: Tensor) -> dict[str, Target]:
    """What each linear map that is changed, or sees a changed input, should respond.

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
        if handler_for(node.op).linear(network.layer(node.layer)) is None:
            continue
        rows = kept_rows(channels, node.layer, removed)
        whole = channels.shapes[node.outputs[0]][linear_of(network, node.layer).input_axis]
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
        module = norm_module(network, norm)
        assert module.running_var is not None
        gain = (module.running_var.double() + module.eps).rsqrt()
        gain = gain if module.weight is None else gain * module.weight.detach().double()
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


def fitted_weight(moments: Moments, weight: Tensor, groups: int, ridge: float) -> tuple[Tensor, Tensor, float]:
    """Least squares, drawn to the present weights instead of to zero where the data say nothing.

    Args:
        moments: of the inputs (of the pruned network) and the targets.
        weight: (n, m) the present weights.
        ridge: relative to the mean of G's diagonal.

    Returns: weights (n, m), constants (n,), and the relative squared error on the data.
    """
    gram, cross, spread = (
        one if groups > 1 else one[None] for one in (moments.gram, moments.cross, moments.output_gram)
    )
    present = weight.double().reshape(groups, -1, weight.shape[1]).transpose(1, 2)
    solved = torch.empty_like(cross)
    error = 0.0
    for g in range(groups):
        damping = ridge * float(gram[g].diagonal().mean()) + torch.finfo(torch.float64).tiny
        lower = factor(gram[g], damping)
        solved[g] = torch.cholesky_solve(cross[g] + damping * present[g], lower)
        fit = solved[g]
        error += float(spread[g].trace() - 2 * (cross[g] * fit).sum() + ((gram[g] @ fit) * fit).sum())
    total = float(spread.diagonal(dim1=1, dim2=2).sum())
    flat = solved.transpose(1, 2).reshape(weight.shape)
    means = moments.mean_x.reshape(groups, -1, 1)
    constant = moments.mean_y - (flat.reshape(groups, -1, flat.shape[1]) @ means).flatten()
    return flat, constant, max(0.0, error) / total if total > 0 else 0.0


def refit(
    channels: ChannelMap,
    pruned: ReconstructedNetwork,
    calibration: Calibration,
    changed: Iterable[str],
    removed: Tensor,
    *,
    ridge: float,
    per_sample: int | None,
    norm_update: bool,
    seed: int,
) -> tuple[ReconstructedNetwork, dict[str, float]]:
    """Fit `pruned` in running order: inputs from itself, targets from the original. Returns the network and errors by layer.

    Every fitted layer has a bias afterwards.
    """
    original = channels.network
    targets = residual_targets(channels, changed, removed)
    errors: dict[str, float] = {}

    def fit(layer: str, moments: Moments) -> Mapping[str, nn.Module]:
        linear = linear_of(pruned, layer)
        damping = max(ridge, 1e-2) if moments.per_unknown < 5 else ridge
        weight, constant, errors[layer] = fitted_weight(moments, linear.weight, linear.groups, damping)
        install(pruned, layer, weight, constant)
        return {}

    refit_sequentially(original, pruned, calibration, targets, fit, per_sample=per_sample, seed=seed)
    if norm_update:
        pruned = _nearest(original, pruned, calibration, targets)
    return pruned, errors


def _nearest(
    original: ReconstructedNetwork, fitted: ReconstructedNetwork, calibration: Calibration, targets: Mapping[str, Target]
) -> ReconstructedNetwork:
    """`fitted`, or one of its versions with response variances or batch norm statistics renewed, if its outputs are nearer."""
    calibration = calibration.subset(_JUDGED)
    divergence = Divergence(original, calibration)
    best, least = fitted, divergence(fitted)
    matched = fitted.clone()
    match_responses(original, matched, calibration, targets)
    for trial in (matched, reestimated_norms(fitted, calibration)):
        if trial is not None and (measured := divergence(trial)) < least:
            best, least = trial, measured
    return best


def reestimated_norms(network: ReconstructedNetwork, calibration: Calibration) -> ReconstructedNetwork | None:
    """A copy whose batch norms have the statistics of the calibration data; None when it has no batch norm."""
    copy = network.clone()
    norms = [module for module in copy.modules() if isinstance(module, _Norm) and module.running_mean is not None]
    if not norms:
        return None
    modes = {module: module.training for module in copy.modules()}
    momenta = [module.momentum for module in norms]
    copy.eval()
    for module in norms:
        module.train()
        module.reset_running_stats()
        module.momentum = None  # the plain average over batches
    with torch.no_grad():
        for inputs in calibration.chunks(copy):
            copy(*inputs)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    for one, mode in modes.items():
        one.training = mode
    return copy
